//! The local admin token: whoever may read the node's data directory may command the node.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "admin.token";

/// A token: 64 hexadecimal digits, made anew at every start.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub(crate) fn new() -> io::Result<Self> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Self(random.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// Writes it to the data directory, readable by the owner only.
    ///
    /// # Errors
    /// What the system says when the file cannot be written.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        // Written aside and renamed: a reader sees the old one or the new one, never half of it.
        let aside = data.join(format!("{FILE}.new"));
        let _ = fs::remove_file(&aside);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        writeln!(file, "{}", self.0)?;
        fs::rename(&aside, path(data))
    }

    /// Whether `given` is the token. Takes the same time wherever the difference is.
    pub(crate) fn is(&self, given: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), given.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
    }
}

/// Where the token of the node on `data` is.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_readable_by_its_owner_only_and_new_at_every_start() {
        let data = tempfile::tempdir().unwrap();
        let (first, second) = (Token::new().unwrap(), Token::new().unwrap());
        first.write(data.path()).unwrap();
        second.write(data.path()).unwrap();
        let written = fs::read_to_string(path(data.path())).unwrap();
        assert!(second.is(written.trim()));
        assert!(!first.is(written.trim()));
        assert!(!second.is(""));
        let mode = fs::metadata(path(data.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
