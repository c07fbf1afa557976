//! Which image a call runs in. Pure.

use muster_wire::message::{HostStatus, Image};

/// The repository of the images that we build.
const OURS: &str = "muster/python";

/// Whether two names mean the same image: `ubuntu` is `docker.io/library/ubuntu:latest`.
pub fn same(a: &str, b: &str) -> bool {
    full(a) == full(b)
}

fn full(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// Names of the images on these hosts, each once, sorted.
pub fn there(hosts: &[HostStatus]) -> Vec<String> {
    let mut names: Vec<String> =
        hosts.iter().flat_map(|host| host.images.iter().map(|image| image.name.clone())).collect();
    names.sort();
    names.dedup();
    names
}

/// Our image with this Python, if a host has it: or the one with the newest Python.
pub fn default_image(hosts: &[HostStatus], python: Option<&str>) -> Option<String> {
    let ours = hosts.iter().flat_map(|host| &host.images).filter(|image| is_ours(&image.name));
    ours.filter(|image| python.is_none() || image.python.as_deref() == python)
        .max_by_key(|image| image.python.as_deref().map(version))
        .map(|image| image.name.clone())
}

/// The Python of an image, where a host knows it.
pub fn python_of(hosts: &[HostStatus], name: &str) -> Option<String> {
    let mut images = hosts.iter().flat_map(|host| &host.images);
    images.find(|image| same(&image.name, name)).and_then(|image: &Image| image.python.clone())
}

/// Images whose Python is known to be this one.
pub fn with_python(hosts: &[HostStatus], python: &str) -> Vec<String> {
    let fits = |image: &&Image| image.python.as_deref() == Some(python);
    let mut names: Vec<String> = hosts
        .iter()
        .flat_map(|host| host.images.iter().filter(fits).map(|image| image.name.clone()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn is_ours(name: &str) -> bool {
    name.split(':').next() == Some(OURS)
}

fn version(python: &str) -> Vec<u32> {
    python.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(images: &[(&str, &str)]) -> HostStatus {
        HostStatus {
            host: "h".into(),
            version: "1".into(),
            cores: 1.0,
            ram_bytes: 1,
            free_cores: 1.0,
            lent_cores: 0.0,
            waiting_workers: 0,
            free_ram_bytes: 1,
            workers: 0,
            warm: 0,
            warm_claims: 0,
            cold_claims: 0,
            draining: false,
            pull: false,
            images: images
                .iter()
                .map(|(name, python)| Image {
                    name: (*name).to_owned(),
                    python: Some((*python).to_owned()),
                })
                .collect(),
            runtimes: Vec::new(),
            shares: Vec::new(),
        }
    }

    #[test]
    fn names_mean_the_same_image_with_and_without_defaults() {
        assert!(same("ubuntu", "docker.io/library/ubuntu:latest"));
        assert!(same("muster/python:3.11", "docker.io/muster/python:3.11"));
        assert!(!same("ubuntu:22.04", "ubuntu"));
        assert!(!same("localhost:5000/x:1", "x:1"));
    }

    #[test]
    fn the_default_image_has_the_asked_python_or_the_newest() {
        let hosts = [host(&[
            ("muster/python:3.9", "3.9"),
            ("other:1", "3.99"),
            ("muster/python:3.13", "3.13"),
        ])];
        assert_eq!(default_image(&hosts, None).as_deref(), Some("muster/python:3.13"));
        assert_eq!(default_image(&hosts, Some("3.9")).as_deref(), Some("muster/python:3.9"));
        assert_eq!(default_image(&hosts, Some("3.12")), None);
        assert_eq!(with_python(&hosts, "3.99"), vec!["other:1"]);
    }
}
