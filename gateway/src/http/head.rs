//! The bytes of a request's head, before the parser makes them clean: what two servers could read differently is refused.
//!
//! The parser takes lines that end in a bare LF, and forgets a `Content-Length` that follows a `Transfer-Encoding`. A proxy
//! in front that reads such a head in another way would see other requests than we do.

/// The longest line of which the name is kept.
const NAME: usize = 18;

/// Reads along; see the module.
#[derive(Debug, Default)]
pub struct HeadCheck {
    /// First bytes of the line, in lower case.
    name: Vec<u8>,
    /// Bytes of the line so far.
    length: usize,
    after_cr: bool,
    any_line: bool,
    content_length: bool,
    transfer_encoding: bool,
    done: bool,
}

/// A head that could be read in two ways.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

impl HeadCheck {
    /// Reads on; what follows the head is not looked at.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Ambiguous> {
        for &byte in bytes {
            if self.done {
                return Ok(());
            }
            match byte {
                b'\n' if !self.after_cr => return Err(Ambiguous),
                b'\n' => self.line()?,
                _ if self.after_cr => return Err(Ambiguous),
                b'\r' => self.after_cr = true,
                // A name followed by a blank, or a line that goes on with the one before it.
                b' ' | b'\t'
                    if self.any_line && !self.name.contains(&b':') && self.length < NAME =>
                {
                    return Err(Ambiguous);
                }
                _ => {
                    self.length += 1;
                    if self.length <= NAME {
                        self.name.push(byte.to_ascii_lowercase());
                    }
                }
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<(), Ambiguous> {
        self.content_length |= self.name.starts_with(b"content-length:");
        self.transfer_encoding |= self.name.starts_with(b"transfer-encoding:");
        self.done = self.length == 0 && self.any_line;
        self.any_line |= self.length > 0;
        self.after_cr = false;
        self.length = 0;
        self.name.clear();
        match self.content_length && self.transfer_encoding {
            true => Err(Ambiguous),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<(), Ambiguous> {
        HeadCheck::default().feed(text.as_bytes())
    }

    #[test]
    fn heads_that_read_one_way_pass() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nbody\nwith\nlines",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nTransfer-Encoding: chunked",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\nA-Name-That-Is-Longer-Than-Others: x y\r\nX: \ty z\r\n\r\n",
        ] {
            assert_eq!(read(head), Ok(()), "{head:?}");
        }
    }

    #[test]
    fn heads_that_read_two_ways_are_refused() {
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\rHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH: 3\r\n\r\n",
        ] {
            assert_eq!(read(head), Err(Ambiguous), "{head:?}");
        }
    }

    proptest! {
        /// It does not matter in which pieces a head comes.
        #[test]
        fn pieces_make_no_difference(head in "[A-Z: \r\n]{0,60}", at in 0usize..60) {
            let at = at.min(head.len());
            let mut parted = HeadCheck::default();
            let found = parted
                .feed(&head.as_bytes()[..at])
                .and_then(|()| parted.feed(&head.as_bytes()[at..]));
            prop_assert_eq!(found, read(&head));
        }
    }
}
