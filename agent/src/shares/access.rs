//! What the users of containers, who are none of the host's, may do in the folder of a share, by its mode and its file
//! system. What access lists or a server's own rules add or take away is not seen.

use std::io;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::StatVfsMountFlags;

use super::Share;

const READ: u32 = 0o005;
const WRITE: u32 = 0o003;

/// What calls can do with a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All that its settings say.
    Whole,
    /// Not even read it.
    Unreadable,
    /// Not write to it, though its settings say so.
    Unwritable,
    /// The same, because of its file system.
    ReadOnly,
}

/// Looks at the folder of a share, and may wait as long as its server does.
pub fn access(share: &Share) -> io::Result<Access> {
    let mode = share.path.metadata()?.permissions().mode();
    let system = rustix::fs::statvfs(&share.path)?;
    Ok(match share.writable {
        _ if mode & READ != READ => Access::Unreadable,
        true if system.f_flag.contains(StatVfsMountFlags::RDONLY) => Access::ReadOnly,
        true if mode & WRITE != WRITE => Access::Unwritable,
        _ => Access::Whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_judged_by_what_it_lets_everybody_do() {
        let place = tempfile::tempdir().expect("a folder");
        let found = |mode, writable| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(place.path(), permissions).expect("ours");
            let share = Share { name: "data".into(), path: place.path().into(), writable };
            access(&share).expect("it is there")
        };
        assert_eq!(found(0o755, false), Access::Whole);
        assert_eq!(found(0o755, true), Access::Unwritable);
        assert_eq!(found(0o1777, true), Access::Whole);
        assert_eq!(found(0o750, false), Access::Unreadable);
        assert_eq!(found(0o774, true), Access::Unreadable);
        let gone = Share { name: "data".into(), path: place.path().join("gone"), writable: false };
        assert!(access(&gone).is_err());
    }
}
