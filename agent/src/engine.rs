//! The Docker engine: the only module that names its client. Thin on purpose: what is asked for is decided elsewhere
//! (`container::profile` above all), this says it to the engine and gives its refusals names.
//!
//! Every request has a deadline. Creating is safe to repeat, because names are ours and unique; removing what is gone is
//! a success.

mod error;
mod facts;

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters as query;
use futures_util::StreamExt;

pub use self::error::EngineError;
use self::error::{named, within};
pub use self::facts::{EngineAbout, EngineFacts};

/// The engine's own description of containers, for `container::profile`.
pub use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};

/// Creating or starting on a machine that is busy starting others can take this long.
const DEADLINE: Duration = Duration::from_secs(60);
/// An engine that is there answers the smallest question in this time.
const SOON: Duration = Duration::from_secs(5);
/// A pull may take long, but not stand still for this long.
const PULL_SILENCE: Duration = Duration::from_secs(120);

/// An image as the engine lists it: one entry per name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineImage {
    /// Name with tag.
    pub name: String,
    /// Content id.
    pub id: String,
    /// Label `muster.python`.
    pub python: Option<String>,
}

/// A container as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineContainer {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

/// A network of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineNetwork {
    /// Its name.
    pub name: String,
    /// Name of its bridge on the host.
    pub bridge: String,
    /// The range it is to have, like `172.18.0.0/16`; without one the engine chooses.
    pub subnet: Option<String>,
}

/// Switches an image's own health check off.
pub fn no_health_check() -> bollard::models::HealthConfig {
    bollard::models::HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }
}

/// Label of images that say which Python they have.
pub const PYTHON_LABEL: &str = "muster.python";

/// A cheap handle to the engine.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
}

impl Engine {
    /// Connects and agrees on a version of its API (1.41 and newer are known to work).
    pub async fn connect(host: Option<&str>) -> Result<Engine, EngineError> {
        let at = host.map_or_else(
            || std::env::var("DOCKER_HOST").unwrap_or("unix:///var/run/docker.sock".into()),
            str::to_string,
        );
        let unreachable = |source| EngineError::Unreachable { at: at.clone(), source };
        let docker = Docker::connect_with_host(&at).map_err(unreachable)?;
        let negotiated = docker.negotiate_version().await.map_err(unreachable)?;
        Ok(Engine { docker: negotiated })
    }

    /// What it is.
    pub async fn facts(&self) -> Result<EngineFacts, EngineError> {
        Ok(EngineFacts::from(self.info().await?))
    }

    /// What it is made of.
    pub async fn about(&self) -> Result<EngineAbout, EngineError> {
        let info = self.info().await?;
        let version =
            within("asking the engine's version", DEADLINE, self.docker.version()).await?;
        let components = version.components.unwrap_or_default();
        let version_of = |name: &str| {
            let component = components.iter().find(|component| component.name == name);
            component.map(|component| component.version.clone())
        };
        Ok(EngineAbout {
            runc: version_of("runc"),
            containerd: version_of("containerd"),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            security: info.security_options.clone().unwrap_or_default(),
            facts: EngineFacts::from(info),
        })
    }

    async fn info(&self) -> Result<bollard::models::SystemInfo, EngineError> {
        within("asking the engine what it is", DEADLINE, self.docker.info()).await
    }

    /// Makes a container; its id.
    pub async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<String, EngineError> {
        let options = query::CreateContainerOptionsBuilder::default().name(name).build();
        let doing = format!("creating container {name}");
        let made = self.docker.create_container(Some(options), body);
        Ok(within(&doing, DEADLINE, made).await?.id)
    }

    /// Starts a container.
    pub async fn start(&self, name: &str) -> Result<(), EngineError> {
        let doing = format!("starting container {name}");
        within(&doing, DEADLINE, self.docker.start_container(name, None)).await
    }

    /// Removes a container, running or not; one that is gone already is a success.
    pub async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let doing = format!("removing container {name}");
        match within(&doing, DEADLINE, self.docker.remove_container(name, Some(options))).await {
            Err(EngineError::NotFound { .. }) => Ok(()),
            // Somebody else is removing it already.
            Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            other => other,
        }
    }

    /// Whether it answers at once.
    pub async fn answers(&self) -> bool {
        within("asking the engine whether it is there", SOON, self.docker.ping()).await.is_ok()
    }

    /// Ends when the engine does, or does not answer: asks it for events that it never has.
    pub async fn ended(&self) {
        let none = HashMap::from([
            ("image".to_string(), vec!["none".to_string()]),
            ("type".to_string(), vec!["daemon".to_string()]),
        ]);
        let options = query::EventsOptionsBuilder::default().filters(&none).build();
        let mut events = self.docker.events(Some(options));
        while let Some(Ok(_)) = events.next().await {}
    }

    /// Waits until a container that runs, or is about to, has stopped; its exit code, if the engine knows.
    pub async fn stopped(&self, name: &str) -> Option<i64> {
        let next = query::WaitContainerOptionsBuilder::default().condition("next-exit").build();
        let mut waited = self.docker.wait_container(name, Some(next));
        match waited.next().await {
            Some(Ok(response)) => Some(response.status_code),
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Some(code),
            _ => None,
        }
    }

    /// Tells the engine which limits we wrote into a cgroup, so that it (or systemd) does not write the old ones again.
    pub async fn update_limits(
        &self,
        name: &str,
        cpu: u64,
        cores: &str,
        ram_bytes: u64,
    ) -> Result<(), EngineError> {
        let body = bollard::models::ContainerUpdateBody {
            nano_cpus: Some(cpu as i64 * 1_000_000),
            cpuset_cpus: Some(cores.to_string()),
            memory: Some(ram_bytes as i64),
            memory_swap: Some(ram_bytes as i64),
            ..Default::default()
        };
        let doing = format!("updating the limits of {name}");
        within(&doing, DEADLINE, self.docker.update_container(name, body)).await
    }

    /// All containers, running or not, with this label and value.
    pub async fn containers(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<EngineContainer>, EngineError> {
        let filters = HashMap::from([("label".to_string(), vec![format!("{label}={value}")])]);
        let options =
            query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed =
            within("listing containers", DEADLINE, self.docker.list_containers(Some(options)))
                .await?;
        let named = |summary: bollard::models::ContainerSummary| {
            let name = summary.names?.first()?.trim_start_matches('/').to_string();
            Some(EngineContainer { name, labels: summary.labels.unwrap_or_default() })
        };
        Ok(listed.into_iter().filter_map(named).collect())
    }

    /// All images that have a name.
    pub async fn images(&self) -> Result<Vec<EngineImage>, EngineError> {
        let options = query::ListImagesOptionsBuilder::default().build();
        let listed =
            within("listing images", DEADLINE, self.docker.list_images(Some(options))).await?;
        let mut images: Vec<EngineImage> =
            listed
                .into_iter()
                .flat_map(|image| {
                    let python = image.labels.get(PYTHON_LABEL).cloned();
                    let id = image.id;
                    image.repo_tags.into_iter().filter(|name| name != "<none>:<none>").map(
                        move |name| EngineImage { name, id: id.clone(), python: python.clone() },
                    )
                })
                .collect();
        images.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// One image by any name the engine understands.
    pub async fn image(&self, name: &str) -> Result<EngineImage, EngineError> {
        let doing = format!("looking for image {name}");
        let image = within(&doing, DEADLINE, self.docker.inspect_image(name)).await?;
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        Ok(EngineImage {
            name: name.to_string(),
            id: image.id.unwrap_or_default(),
            python: labels.get(PYTHON_LABEL).cloned(),
        })
    }

    /// Pulls an image; `progress` gets per cent as they grow.
    pub async fn pull(&self, name: &str, mut progress: impl FnMut(u8)) -> Result<(), EngineError> {
        // Without a tag the engine would pull every one.
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let from = if tagged { name.to_string() } else { format!("{name}:latest") };
        let options = query::CreateImageOptionsBuilder::default().from_image(&from).build();
        let doing = format!("pulling image {name}");
        let mut news = self.docker.create_image(Some(options), None, None);
        let mut layers: HashMap<String, (i64, i64)> = HashMap::new();
        let mut shown = 0;
        loop {
            let next = tokio::time::timeout(PULL_SILENCE, news.next())
                .await
                .map_err(|_| EngineError::Late { doing: doing.clone(), after: PULL_SILENCE })?;
            let Some(step) = next else { return Ok(()) };
            let step = step.map_err(|source| named(&doing, source))?;
            let detail = step.progress_detail.and_then(|detail| detail.current.zip(detail.total));
            if let (Some(layer), Some(amount)) = (step.id, detail) {
                layers.insert(layer, amount);
                let (done, all) =
                    layers.values().fold((0, 0), |sum, (done, all)| (sum.0 + done, sum.1 + all));
                let percent = (done.max(0) * 100 / all.max(1)).min(100) as u8;
                if percent > shown {
                    shown = percent;
                    progress(percent);
                }
            }
        }
    }

    /// Whether this network is there.
    pub async fn has_network(&self, name: &str) -> bool {
        self.docker.inspect_network(name, None).await.is_ok()
    }

    /// Makes the network if it is not there. Containers on it cannot reach one another.
    pub async fn ensure_network(&self, network: &EngineNetwork) -> Result<(), EngineError> {
        if self.has_network(&network.name).await {
            return Ok(());
        }
        let option =
            |key: &str, value: &str| (format!("com.docker.network.{key}"), value.to_string());
        let options = HashMap::from([
            option("bridge.enable_icc", "false"),
            option("bridge.name", &network.bridge),
        ]);
        let ipam = network.subnet.clone().map(|subnet| {
            let config = bollard::models::IpamConfig { subnet: Some(subnet), ..Default::default() };
            bollard::models::Ipam { config: Some(vec![config]), ..Default::default() }
        });
        let request = bollard::models::NetworkCreateRequest {
            name: network.name.clone(),
            ipam,
            driver: Some("bridge".into()),
            options: Some(options),
            labels: Some(HashMap::from([("muster.network".into(), "1".into())])),
            ..Default::default()
        };
        let doing = format!("making network {}", network.name);
        match within(&doing, DEADLINE, self.docker.create_network(request)).await {
            Ok(_) => Ok(()),
            // Another agent of this machine was faster.
            Err(EngineError::Refused { status: 409 | 403, .. })
                if self.has_network(&network.name).await =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the network; refused while a container uses it.
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        match within("removing the network", DEADLINE, self.docker.remove_network(name)).await {
            Err(EngineError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}
