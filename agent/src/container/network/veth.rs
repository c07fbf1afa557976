//! The edge to the kernel: pairs of interfaces, one end a port of the bridge, the other in a container. Each pair is made
//! with its other end already in the container's namespace, so that there is no moment at which it could outlive that.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::link::{InfoData, InfoPortKind, InfoVeth};
use rtnetlink::{
    Handle, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::DEADLINE;
use super::address::{Address, Subnet, is_port};
use crate::container::process::Process;

/// What the container's end is called.
const INSIDE: &str = "eth0";
const INTERFACES: &str = "/sys/class/net";
/// What the next interface of a namespace begins with.
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/// A container's connection could not be made, or taken away.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed")]
pub struct VethError {
    doing: &'static str,
    #[source]
    source: io::Error,
}

/// A netlink socket, which talks to the namespace it was made in, and what drives it.
struct Netlink {
    driver: Driver,
    handle: Handle,
}

type Driver = futures_util::future::BoxFuture<'static, ()>;

impl VethError {
    /// Whether what was to be made is there already.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

/// Connects the container whose first process this is. Where it fails, nothing is left of it.
pub async fn plug(process: &Process, bridge: &str, address: &Address) -> Result<(), VethError> {
    let opened = File::open(format!("/proc/{}/ns/net", process.pid()));
    let namespace = opened.map_err(failed("finding the container's network namespace"))?;
    if !process.is_alive() {
        let gone = io::Error::other("the container has ended");
        return Err(failed("finding the container's network namespace")(gone));
    }
    let there = namespace.try_clone().map_err(failed("entering the container's namespace"))?;
    // First, because it says what the new interface begins with.
    let inside = inside(there).await.map_err(failed("entering the container's namespace"))?;
    let bridge = if_nametoindex(bridge).map_err(io::Error::from);
    let bridge = bridge.map_err(failed("finding the bridge"))?;
    let host = here().map_err(failed("opening a netlink socket"))?;
    let connecting = async {
        host.talk(async |handle| {
            let end = LinkUnspec::new_with_name(INSIDE)
                .address(address.hardware())
                .setns_by_fd(namespace.as_raw_fd())
                .build();
            let pair = LinkVeth::new(&address.port(), INSIDE)
                .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
                .controller(bridge)
                .build();
            let doing = "making a pair of interfaces";
            handle.link().add(pair).execute().await.map_err(netlink(doing))?;
            address.set_plugged(true);
            isolate(&handle, &address.port()).await
        })
        .await?;
        inside.talk(async |handle| give(&handle, address).await).await
    };
    let connected = connecting.await;
    if connected.is_err() {
        // Why is told by what came first.
        let _ = unplug(address).await;
    }
    connected
}

/// Gives a container's end its address.
async fn give(handle: &Handle, address: &Address) -> Result<(), VethError> {
    let doing = "giving a container its address";
    let mut found = handle.link().get().match_name(INSIDE).execute();
    let link = found.try_next().await.map_err(netlink(doing))?;
    let link = link.ok_or_else(|| failed(doing)(io::ErrorKind::NotFound.into()))?;
    let (index, ip) = (link.header.index, IpAddr::V4(address.ip()));
    let add = handle.address().add(index, ip, address.prefix());
    add.execute().await.map_err(netlink(doing))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(netlink(doing))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(address.gateway()).build();
    handle.route().add(route).execute().await.map_err(netlink(doing))
}

/// Removes a container's port, if it has one, with its other end; one that is gone already is a success.
pub async fn unplug(address: &Address) -> Result<(), VethError> {
    let (doing, port) = ("removing a pair of interfaces", address.port());
    if !address.is_plugged() {
        return Ok(());
    }
    let Ok(index) = if_nametoindex(port.as_str()) else { return Ok(()) };
    let host = here().map_err(failed("opening a netlink socket"))?;
    let removed = host
        .talk(async |handle| handle.link().del(index).execute().await.map_err(netlink(doing)))
        .await;
    match removed {
        Err(error) if is_there(&port) => Err(error),
        _ => {
            address.set_plugged(false);
            Ok(())
        }
    }
}

/// Puts ports that have lost their bridge on this one.
pub async fn replug(bridge: &str) -> Result<(), VethError> {
    let loose: Vec<PathBuf> = ports().filter(|port| !port.join("master").exists()).collect();
    if loose.is_empty() {
        return Ok(());
    }
    // An agent in a network of its own sees the bridge nowhere: its containers are plugged in by the engine.
    let Ok(bridge) = if_nametoindex(bridge) else { return Ok(()) };
    let host = here().map_err(failed("opening a netlink socket"))?;
    host.talk(async |handle| {
        for name in loose.iter().filter_map(|port| port.file_name()?.to_str()) {
            let doing = "putting a port on the new bridge";
            let moved = LinkUnspec::new_with_name(name).controller(bridge).build();
            let moved = handle.link().set(moved).execute().await.map_err(netlink(doing));
            let moved = match moved {
                Ok(()) => isolate(&handle, name).await,
                refused => refused,
            };
            match moved {
                Ok(()) => {
                    tracing::info!(port = name, "container connected again to the new bridge")
                }
                // Its container has ended meanwhile.
                Err(_) if !is_there(name) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
    .await
}

/// The ports of all agents of this machine.
pub fn ports() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_port))
        .map(|entry| entry.path())
}

/// Whether there is an interface of this name.
pub fn is_there(name: &str) -> bool {
    Path::new(INTERFACES).join(name).exists()
}

/// The range of this bridge, from its own address.
pub fn subnet(bridge: &str) -> Option<Subnet> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    interfaces.filter(|interface| interface.interface_name == bridge).find_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        Subnet::new(address, interface.netmask?.as_sockaddr_in()?.ip())
    })
}

/// Isolated ports reach the bridge's own side and no other isolated port. It goes up only after that.
async fn isolate(handle: &Handle, port: &str) -> Result<(), VethError> {
    let isolated = LinkMessageBuilder::<LinkBridgePort>::default()
        .name(port)
        .set_port_kind(InfoPortKind::Bridge)
        .isolated(true)
        .up()
        .build();
    let set = handle.link().set_port(isolated).execute().await;
    set.map_err(netlink("isolating a port of the bridge"))
}

/// A socket in a container's namespace, in which interfaces that come have no IPv6. A namespace belongs to a thread: so this
/// needs one of its own, which ends when it has it.
async fn inside(namespace: File) -> io::Result<Netlink> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new().name("netns".into()).spawn(move || {
        let opened = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            match std::fs::write(NO_IPV6, "1") {
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            let _reactor = runtime.enter();
            here()
        };
        // Nobody listens when the start was given up.
        let _ = tell.send(opened());
    })?;
    told.await.map_err(io::Error::other)?
}

/// A socket in the namespace of this thread.
fn here() -> io::Result<Netlink> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    Ok(Netlink { driver: Box::pin(connection), handle })
}

impl Netlink {
    async fn talk(
        self,
        work: impl AsyncFnOnce(Handle) -> Result<(), VethError>,
    ) -> Result<(), VethError> {
        let late = |_| failed("asking the kernel")(io::ErrorKind::TimedOut.into());
        let talk = tokio::time::timeout(DEADLINE, work(self.handle));
        tokio::select! {
            biased;
            answer = talk => answer.map_err(late)?,
            () = self.driver => Err(failed("asking the kernel")(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> VethError {
    move |source| VethError { doing, source }
}

fn netlink(doing: &'static str) -> impl Fn(rtnetlink::Error) -> VethError {
    move |error| {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other),
        };
        VethError { doing, source }
    }
}
