//! What a command shows a node of who runs it.

use std::fs;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::cli::Target;
use crate::exit::Failure;
use crate::token;

/// Where a user's password is looked for before it is asked for.
pub(crate) const PASSWORD: &str = "QUORATE_PASSWORD";

/// The header for the node that `target` means: of a user that is named, a token that is given, a file;
/// or of the node's data directory, if the node is on this machine (`local`).
///
/// # Errors
/// [`Failure::Usage`]: a file that cannot be read, a password that nobody can be asked for.
pub(super) fn authorization(target: &Target, local: bool) -> Result<Option<String>, Failure> {
    if let Some(user) = &target.user {
        let password = password_of(user)?;
        return Ok(Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}")))));
    }
    if let Some(token) = target.token.as_deref().filter(|token| !token.is_empty()) {
        return bearer("--token", token).map(Some);
    }
    if let Some(file) = &target.token_file {
        let flag = format!("the token file {}", file.display());
        let text =
            fs::read_to_string(file).map_err(|error| Failure::Usage(format!("{flag}: {error}")))?;
        return bearer(&flag, text.trim()).map(Some);
    }
    // The token of this machine's node is not shown to others.
    let kept = local.then(|| fs::read_to_string(token::path(&target.data)).ok()).flatten();
    kept.map(|text| bearer("admin.token", text.trim())).transpose()
}

/// As [`authorization`], as a token alone, where there is one and `target` names no user.
///
/// # Errors
/// As [`authorization`].
pub(crate) fn token_of(target: &Target, local: bool) -> Result<Option<String>, Failure> {
    let header = authorization(target, local)?;
    Ok(header.and_then(|header| header.strip_prefix("Bearer ").map(str::to_owned)))
}

/// A token goes into one line of a header.
fn bearer(from: &str, token: &str) -> Result<String, Failure> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!(
            "{from}: it is no token: one is a single line of text"
        )));
    }
    Ok(format!("Bearer {token}"))
}

/// Asked for once a process: a command may look at a node many times.
fn password_of(user: &str) -> Result<&'static str, Failure> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    if user.contains(':') {
        return Err(Failure::Usage(format!("--user {user}: a name has no colon")));
    }
    let password = match std::env::var(PASSWORD) {
        Ok(password) => password,
        Err(_) => asked(
            &format!("Password of {user}: "),
            &format!(
                "the password of {user} can be asked for on a terminal only: give it in {PASSWORD}"
            ),
        )?,
    };
    Ok(KNOWN.get_or_init(|| password))
}

/// Asks for a password without showing it; where nobody can answer, `otherwise` says what to do.
///
/// # Errors
/// [`Failure::Usage`] where nobody can answer.
pub(crate) fn asked(question: &str, otherwise: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(otherwise.to_owned()));
    }
    rpassword::prompt_password(question)
        .map_err(|error| Failure::Usage(format!("the password could not be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_this_machines_node_is_shown_to_no_other() {
        let data = tempfile::tempdir().unwrap();
        fs::write(token::path(data.path()), "own-token\n").unwrap();
        let target = Target::of(data.path());
        let shown = |local| authorization(&target, local).unwrap();
        assert_eq!(shown(true).as_deref(), Some("Bearer own-token"));
        assert_eq!(shown(false), None);
    }

    #[test]
    fn what_is_given_by_hand_wins_over_what_is_found() {
        let data = tempfile::tempdir().unwrap();
        fs::write(token::path(data.path()), "own-token").unwrap();
        let file = data.path().join("other");
        fs::write(&file, " from-a-file \n").unwrap();
        let mut target = Target::of(data.path());
        target.token_file = Some(file.clone());
        assert_eq!(authorization(&target, true).unwrap().unwrap(), "Bearer from-a-file");
        target.token = Some("given".to_owned());
        assert_eq!(authorization(&target, true).unwrap().unwrap(), "Bearer given");
        target.token = Some("two\nlines".to_owned());
        assert!(matches!(authorization(&target, true), Err(Failure::Usage(_))));
        target.token = None;
        fs::write(&file, "").unwrap();
        assert!(matches!(authorization(&target, true), Err(Failure::Usage(_))));
    }
}
