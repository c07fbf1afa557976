//! What an operator may choose about packages. The index, and credentials in its address, reach the installer's container
//! alone: they travel through its socket, never in its description, and no container of a call gets them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

/// What containers that install packages may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PackageNetwork {
    /// Nothing: packages come from --package-folder.
    None,
    /// The internet, but no private ranges.
    Internet,
    /// What this host reaches, so also an index in a private network.
    Host,
}

/// The flags as written.
#[derive(Debug, Clone, Args)]
pub struct PackageFlags {
    /// The program uv, a static one, which installs packages [default: uv on the PATH; without it calls with packages are refused]
    #[arg(long, env = "MUSTER_AGENT_UV")]
    pub uv: Option<PathBuf>,
    /// Address of the package index, with credentials if it wants some; `none` for --package-folder alone [default: PyPI]
    #[arg(long, env = "MUSTER_AGENT_PACKAGE_INDEX", hide_env_values = true)]
    pub package_index: Option<String>,
    /// Folder of wheels on this host that everybody may read, looked into beside the index
    #[arg(long, env = "MUSTER_AGENT_PACKAGE_FOLDER")]
    pub package_folder: Option<PathBuf>,
    /// File of certificates that the index may be signed with, as PEM [default: those that this host trusts, else those of uv]
    #[arg(long, env = "MUSTER_AGENT_PACKAGE_CERTIFICATES")]
    pub package_certificates: Option<PathBuf>,
    /// What containers that install packages may reach
    #[arg(long, env = "MUSTER_AGENT_PACKAGE_NETWORK", default_value = "internet", value_enum)]
    pub package_network: PackageNetwork,
    /// How much is kept of environments below --cache-dir; what was not used for longest goes first
    #[arg(long, env = "MUSTER_AGENT_PACKAGE_CACHE", default_value = "20GiB")]
    pub package_cache: String,
}

/// What the flags mean.
#[derive(Clone)]
pub struct PackageSettings {
    /// The installer.
    pub uv: Option<PathBuf>,
    /// Address of the index if it is not PyPI; never printed whole.
    pub index: Option<String>,
    /// Wheels on this host.
    pub folder: Option<PathBuf>,
    /// Certificates of the index.
    pub certificates: Option<PathBuf>,
    /// What the installer reaches.
    pub network: PackageNetwork,
    /// Where environments are.
    pub cache_dir: PathBuf,
    /// How much is kept, in bytes.
    pub cache_bytes: u64,
}

/// What this host trusts: a company's index or proxy is often signed by an authority that only its own machines know.
fn trusted_here() -> Option<PathBuf> {
    let file = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
    file.is_file().then_some(file)
}

impl PackageSettings {
    /// Checks the flags; each mistake is told as (flag, why). `path` is the PATH to look for uv in.
    pub fn from_flags(
        flags: &PackageFlags,
        cache_dir: PathBuf,
        cache_bytes: u64,
        path: Option<&str>,
        mut fail: impl FnMut(&str, String),
    ) -> PackageSettings {
        let mut absolute = |flag: &str, path: &Option<PathBuf>, is: fn(&Path) -> bool| {
            let path = path.as_deref()?;
            if !is(path) {
                fail(flag, format!("{} is not there", path.display()));
            }
            Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
        };
        let uv = absolute("--uv", &flags.uv, Path::is_file);
        let folder = absolute("--package-folder", &flags.package_folder, Path::is_dir);
        let certificates =
            absolute("--package-certificates", &flags.package_certificates, Path::is_file)
                .or_else(trusted_here);
        let index = flags.package_index.clone();
        if let Some(index) = &index
            && index != NO_INDEX
            && !index.starts_with("https://")
            && !index.starts_with("http://")
        {
            // Not itself: it may hold a password.
            fail("--package-index", "is neither https://..., http://... nor `none`".into());
        }
        let found =
            || path?.split(':').map(|dir| Path::new(dir).join("uv")).find(|uv| uv.is_file());
        PackageSettings {
            uv: uv.or_else(found),
            index,
            folder,
            certificates,
            network: flags.package_network,
            cache_dir,
            cache_bytes,
        }
    }

    /// Where packages come from, without credentials: part of what an environment is.
    pub fn source(&self) -> String {
        let index = self.index.as_deref().unwrap_or("PyPI");
        let index = match (index.split_once("://"), index.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
            _ => index.to_string(),
        };
        match &self.folder {
            Some(folder) => format!("{index} and {}", folder.display()),
            None => index,
        }
    }

    /// Whether there is no index.
    pub fn is_offline(&self) -> bool {
        self.index.as_deref() == Some(NO_INDEX)
    }

    /// The settings for people, without secrets.
    pub fn describe(&self) -> [(&'static str, String); 5] {
        let path = |path: &Option<PathBuf>| match path {
            Some(path) => path.display().to_string(),
            None => "(none)".into(),
        };
        [
            ("uv", path(&self.uv)),
            ("packages-from", self.source()),
            ("package-certificates", path(&self.certificates)),
            ("package-network", format!("{:?}", self.network).to_lowercase()),
            ("package-cache", format!("{} bytes", self.cache_bytes)),
        ]
    }
}

impl std::fmt::Debug for PackageSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.describe()).finish()
    }
}

/// As `--package-index`: there is none.
const NO_INDEX: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        packages: PackageFlags,
    }

    fn parse(arguments: &[&str]) -> (PackageSettings, Vec<String>) {
        let program = Program::parse_from(["agent"].iter().chain(arguments));
        let mut wrong = Vec::new();
        let fail = |flag: &str, why: String| wrong.push(format!("{flag}: {why}"));
        let settings = PackageSettings::from_flags(&program.packages, "/c".into(), 1, None, fail);
        (settings, wrong)
    }

    #[test]
    fn credentials_of_the_index_are_in_no_text_and_in_no_key() {
        let (settings, wrong) =
            parse(&["--package-index", "https://me:secret@pypi.example/simple"]);
        assert_eq!(wrong, [""; 0]);
        assert_eq!(settings.source(), "https://pypi.example/simple");
        assert!(!format!("{settings:?}").contains("secret"));
        assert_eq!(settings.index.as_deref(), Some("https://me:secret@pypi.example/simple"));
    }

    #[test]
    fn each_mistake_is_told_with_its_flag() {
        let (_, wrong) = parse(&[
            "--uv",
            "/nowhere/uv",
            "--package-folder",
            "/nowhere",
            "--package-index",
            "secret",
        ]);
        let flags: Vec<&str> = wrong.iter().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(flags, ["--uv", "--package-folder", "--package-index"]);
        assert!(!wrong.concat().contains("secret"));
    }
}
