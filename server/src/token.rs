//! The local admin token: whoever may read the node's data directory may command the node.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "admin.token";

/// How many hexadecimal digits a token has.
const DIGITS: usize = 64;

/// A token: 64 hexadecimal digits, made at the first start and kept: while a node restarts, its clients
/// go on with what they have read, and copies of the file stay good. Whoever wants another one removes
/// the file and restarts the node.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// The one of the data directory; a new one if there is none that only its owner can have read.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub(crate) fn of(data: &Path) -> io::Result<Self> {
        match Self::read(&path(data)) {
            Some(kept) => Ok(kept),
            None => Self::new(),
        }
    }

    fn read(file: &Path) -> Option<Self> {
        let private = fs::metadata(file).ok()?.permissions().mode() & 0o077 == 0;
        let text = fs::read_to_string(file).ok()?;
        let token = text.trim_end();
        let whole = token.len() == DIGITS && token.bytes().all(|b| b.is_ascii_hexdigit());
        (private && whole).then(|| Self(token.to_owned()))
    }

    fn new() -> io::Result<Self> {
        random_hex().map(Self)
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

/// 256 random bits, in hexadecimal digits.
///
/// # Errors
/// The operating system gives no randomness.
pub(crate) fn random_hex() -> io::Result<String> {
    let mut random = [0_u8; DIGITS / 2];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().map(|b| format!("{b:02x}")).collect())
}

/// Where the token of the node on `data` is.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_readable_by_its_owner_only_and_kept_from_start_to_start() {
        let data = tempfile::tempdir().unwrap();
        let first = Token::of(data.path()).unwrap();
        assert!(!Token::of(data.path()).unwrap().is(&first.0), "nothing was written");
        first.write(data.path()).unwrap();
        let written = fs::read_to_string(path(data.path())).unwrap();
        assert!(first.is(written.trim()) && !first.is(""));
        let mode = fs::metadata(path(data.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Token::of(data.path()).unwrap();
        assert!(again.is(&first.0));
        again.write(data.path()).unwrap();
        assert!(Token::of(data.path()).unwrap().is(&first.0));
    }

    #[test]
    fn a_token_that_others_may_have_read_or_that_is_none_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let first = Token::of(data.path()).unwrap();
        first.write(data.path()).unwrap();
        fs::set_permissions(path(data.path()), fs::Permissions::from_mode(0o644)).unwrap();
        let second = Token::of(data.path()).unwrap();
        assert!(!second.is(&first.0));
        second.write(data.path()).unwrap();
        fs::write(path(data.path()), &second.0[1..]).unwrap();
        assert!(!Token::of(data.path()).unwrap().is(&second.0));
        fs::write(path(data.path()), "").unwrap();
        assert_eq!(Token::of(data.path()).unwrap().0.len(), DIGITS);
    }
}
