//! The unsafe code of this crate: three system interfaces that have no safe form.

#![allow(unsafe_code, reason = "each block is proved beside it")]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Descriptors that may come with one message.
const MAX_FDS: usize = 8;

/// Reads what is there, and the descriptors that came with it.
pub fn receive(
    stream: &UnixStream,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for us, so they are open and nobody else owns them; each
            // is taken once.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}

/// Makes the command's process the leader of a session of its own, with no signal blocked, and `channel` and `page` as its
/// descriptors 3 and 4. Descriptors 3 and 4 of this process must be in use, by something else, until it was spawned.
pub fn prepare_runner(command: &mut Command, channel: OwnedFd, page: OwnedFd) {
    let prepare = move || {
        nix::unistd::setsid()?;
        SigSet::empty().thread_set_mask()?;
        for (fd, number) in [(&channel, 3), (&page, 4)] {
            // SAFETY: dup2 takes two numbers and touches no memory. What 3 and 4 were in this new process is closed by it:
            // placeholders of ours (see above), which nothing uses here.
            if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made: setsid, sigprocmask and dup2; nothing allocates.
    unsafe { command.pre_exec(prepare) };
}

/// Makes the command's process start with no signal blocked, and die with us.
pub fn prepare_command(command: &mut Command) {
    let prepare = || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(SigSet::empty().thread_set_mask()?)
    };
    // SAFETY: between fork and exec only prctl and sigprocmask are called, which are plain system calls; nothing allocates.
    unsafe { command.pre_exec(prepare) };
}

/// Descriptor 3 as the data channel and 4 as the shared page: what every runner is started with. To be called once.
pub fn inherited() -> (UnixStream, std::fs::File) {
    // SAFETY: the protocol gives descriptors 3 and 4 to this process, and this is the only place that takes them. If a
    // caller did not provide them, uses of them fail with an error.
    unsafe { (UnixStream::from_raw_fd(3), std::fs::File::from_raw_fd(4)) }
}

/// How many bytes wait in the pipe that this descriptor is an end of.
pub fn waiting_bytes(pipe: &impl AsRawFd) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the address given, and `count` is one.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut count) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(count as u64) }
}
