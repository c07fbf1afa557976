//! Commands in a container made for them: asking an image what it has, and installing packages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_wire::batch::{Inputs, Status};
use muster_wire::frame::Kind;
use muster_wire::message::{CallKind, CallSpec, Encoding, ExceptionHead, json_frame, to_json};
use muster_wire::print::Stream;
use tokio::time::Instant;

use super::cache::Building;
use super::plan::{ImageFacts, PROBE, Plan};
use super::said::{Telling, failure};
use super::{EnvironmentError, PackageSettings};
use crate::container::{BUILD_AT, Builder, BuilderError, Containers, MOUNTS_AT, Worker};
use crate::runner::{News, Step};

/// For all of an installation.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// Of a command's output, at most, in bytes.
const OUTPUT: usize = 4 << 20;
const TARGET: &str = "target";
const REQUIREMENTS: &str = "requirements.txt";

/// What a command came to.
struct Output {
    succeeded: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Asks an image what it has.
pub async fn probe(containers: &Containers, image: &str) -> Result<ImageFacts, EnvironmentError> {
    let mut worker = containers.builder(image, None).await.map_err(container)?;
    let output = run(&mut worker, Nth::First(&[]), &["python3", "-c", PROBE], |_| {}).await?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        EnvironmentError::Failed {
            said: format!("the image's Python does not say what it has: {error} {said}"),
        }
    })
}

/// Installs what is planned into a folder below `building`, and returns that folder. What `image` (its content id, and what is
/// known of it) has at the same version is not left there.
pub async fn install(
    containers: &Containers,
    settings: &PackageSettings,
    uv: &Path,
    (image, facts): (&str, &ImageFacts),
    plan: &Plan,
    building: &Building,
    say: impl Fn(String),
) -> Result<PathBuf, EnvironmentError> {
    let requirements = building.path().join(REQUIREMENTS);
    std::fs::write(requirements, plan.requirements.join("\n"))
        .map_err(EnvironmentError::storage)?;
    say(format!("starting the installer for {} packages", plan.requirements.len()));
    let builder = Builder { folder: building.path(), network: settings.network };
    let mut worker = containers.builder(image, Some(builder)).await.map_err(container)?;
    let mut mount = |name: &str, source: &Path| {
        let mounted = worker.container.mount(name, std::sync::Arc::new(source.to_path_buf()));
        mounted.map_err(|error| container(BuilderError::Mount(Box::new(error))))
    };
    mount("uv", uv)?;
    let mut variables = vec![
        ("UV_CACHE_DIR", format!("{BUILD_AT}/cache")),
        ("UV_PYTHON_DOWNLOADS", "never".into()),
        ("NO_COLOR", "1".into()),
    ];
    if let Some(file) = &settings.certificates {
        mount("certificates", file)?;
        variables.push(("SSL_CERT_FILE", format!("{MOUNTS_AT}/certificates")));
    }
    let (uv, wheels) = (format!("{MOUNTS_AT}/uv"), format!("{MOUNTS_AT}/wheels"));
    let (target, list) = (format!("{BUILD_AT}/{TARGET}"), format!("{BUILD_AT}/{REQUIREMENTS}"));
    let mut command =
        vec![uv.as_str(), "pip", "install", "--no-config", "--no-build", "--compile-bytecode"];
    command.extend([
        "--link-mode",
        "hardlink",
        "--python",
        "python3",
        "--target",
        &target,
        "-r",
        &list,
    ]);
    if plan.exact {
        command.push("--no-deps");
    }
    if plan.hashed {
        command.push("--require-hashes");
    }
    if let Some(folder) = &settings.folder {
        mount("wheels", folder)?;
        command.extend(["--find-links", &wheels]);
    }
    match &settings.index {
        _ if settings.is_offline() => command.push("--no-index"),
        Some(index) => variables.push(("UV_DEFAULT_INDEX", index.clone())),
        None => {}
    }
    let mut telling = Telling::new(&plan.requirements);
    let output = run(&mut worker, Nth::First(&variables), &command, |line| {
        telling.line(line).into_iter().for_each(&say);
    });
    let output = output.await?;
    if !output.succeeded {
        let memory = worker.container.memory();
        if memory.oom_kills > 0 {
            let said = format!("it needs more than {} bytes of memory", memory.limit_bytes);
            return Err(EnvironmentError::Failed { said });
        }
        return Err(failure(&plan.requirements, &String::from_utf8_lossy(&output.stderr)));
    }
    let installed = building.path().join(TARGET);
    // Nothing made it where markers left nothing to install.
    std::fs::create_dir_all(&installed).map_err(EnvironmentError::storage)?;
    if plan.exact {
        return Ok(installed);
    }
    let folders = std::fs::read_dir(&installed).map_err(EnvironmentError::storage)?;
    let folders = folders.flatten().filter_map(|found| found.file_name().into_string().ok());
    let twice = facts.also_has(folders.collect::<Vec<String>>().iter().map(String::as_str));
    if !twice.is_empty() {
        // Its name alone would have to be a virtual environment's.
        let python = facts.executable.as_str();
        let mut command = vec![uv.as_str(), "pip", "uninstall", "--no-config", "--python", python];
        command.extend(["--target", &target]);
        command.extend(twice.iter().map(String::as_str));
        let output = run(&mut worker, Nth::Later(1), &command, |_| {}).await?;
        if !output.succeeded {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(EnvironmentError::Failed { said });
        }
    }
    Ok(installed)
}

fn container(error: BuilderError) -> EnvironmentError {
    EnvironmentError::Builder(Box::new(error))
}

/// Which command of a worker it is.
enum Nth<'a> {
    /// The first, with the variables of all.
    First(&'a [(&'a str, String)]),
    /// One after so many.
    Later(u64),
}

/// Runs a command in a worker that runs nothing else; `line` is told each line of its stderr.
async fn run(
    worker: &mut Worker,
    nth: Nth<'_>,
    command: &[&str],
    mut line: impl FnMut(&str),
) -> Result<Output, EnvironmentError> {
    let item = to_json(&serde_json::json!({ "args": command }));
    match nth {
        Nth::First(variables) => {
            let spec = json_frame(Kind::Spec, &spec(variables));
            worker.runner.give(&[spec], &Inputs::single(0, 1, item));
        }
        Nth::Later(before) => worker.runner.give(&[], &Inputs::single(before, 1, item)),
    }
    let mut output = Output { succeeded: false, stdout: Vec::new(), stderr: Vec::new() };
    let (until, mut told) = (Instant::now() + DEADLINE, 0);
    while worker.runner.is_busy() {
        let step = worker.runner.step(until).await;
        match step.map_err(|error| container(BuilderError::Runner(error)))? {
            Step::News(news) => output.take(news)?,
            Step::Time => {
                let said = format!("it did not end within {} minutes", DEADLINE.as_secs() / 60);
                return Err(EnvironmentError::Failed { said });
            }
            Step::Ended { news, last_words, .. } => {
                output.take(news)?;
                if worker.runner.is_busy() {
                    let said = format!("its container ended: {last_words}");
                    return Err(EnvironmentError::Failed { said });
                }
            }
        }
        while let Some(end) = output.stderr[told..].iter().position(|byte| *byte == b'\n') {
            line(&String::from_utf8_lossy(&output.stderr[told..told + end]));
            told += end + 1;
        }
    }
    Ok(output)
}

fn spec(variables: &[(&str, String)]) -> CallSpec {
    CallSpec {
        call: "packages".into(),
        kind: CallKind::Command,
        encoding: Encoding::Json,
        image: String::new(),
        runtime: None,
        python: None,
        cpu: 1.0,
        ram_bytes: 0,
        env: variables.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        timeout_ms: None,
        entry: None,
        command: Vec::new(),
        packages: None,
        secrets: Vec::new(),
        shares: Default::default(),
        data: Vec::new(),
    }
}

impl Output {
    fn take(&mut self, news: News) -> Result<(), EnvironmentError> {
        for printed in news.prints {
            match printed.stream {
                Stream::Stdout => self.stdout.extend_from_slice(&printed.bytes),
                Stream::Stderr => self.stderr.extend_from_slice(&printed.bytes),
            }
        }
        if self.stdout.len().max(self.stderr.len()) > OUTPUT {
            return Err(EnvironmentError::Failed {
                said: format!("it wrote more than {OUTPUT} bytes"),
            });
        }
        for record in news.records {
            self.succeeded = record.status == Status::Value;
            if let Ok(head) = ExceptionHead::of_item(&record.items.joined())
                && record.status == Status::Exception
                && head.exit_code.is_none()
            {
                self.stderr.extend_from_slice(head.message.as_bytes());
            }
        }
        Ok(())
    }
}
