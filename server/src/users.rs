//! The commands about users.

use std::io::{self, BufRead as _};
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::configuration::UserRole as Role;

use crate::cli::{Target, User, UserRole, UserToken};
use crate::client::{Client, asked};
use crate::commands::changed;
use crate::databases::{pretty, print, table};
use crate::exit::Failure;
use crate::http::{Password, TokenView, UserAnswer, UserRequest, UserView};

/// `quorate user …`.
pub(crate) fn user(args: &User) -> Result<(), Failure> {
    match args {
        User::Add { name, role, password_stdin, target } => {
            let password = password_stdin.then(from_stdin).transpose()?;
            let with_password = password.is_some();
            let role = role_of(*role);
            let request = UserRequest::Add { user: name.clone(), role, password };
            let (_, version) = ask(target, &request)?;
            println!("{name} has the role {role}; the configuration has version {version}");
            // The first one changes what holds for everybody.
            let users: Vec<UserView> = Client::find(target)?.get("/users").unwrap_or_default();
            if users.len() == 1 {
                println!(
                    "from now on everybody needs a token or a password; on a node's own machine its \
                     data directory is enough"
                );
            }
            if !with_password {
                println!(
                    "{name} has no password: make a token with `quorate user token add {name}`, or \
                     give a password with `quorate user password {name}`"
                );
            }
            Ok(())
        }
        User::List { json, target } => {
            let users: Vec<UserView> = Client::find(target)?.get("/users")?;
            print(&if *json { pretty(&users)? } else { list(&users, now()) })
        }
        User::Drop { name, target } => {
            let (_, version) = ask(target, &UserRequest::Drop { user: name.clone() })?;
            println!("{name} is dropped, with all tokens; the configuration has version {version}");
            let left: Vec<UserView> = Client::find(target)?.get("/users").unwrap_or_default();
            if left.is_empty() {
                println!(
                    "there are no users any more: only the machines of the nodes themselves may connect"
                );
            }
            Ok(())
        }
        User::Role { name, role, target } => {
            let role = role_of(*role);
            let (_, version) = ask(target, &UserRequest::SetRole { user: name.clone(), role })?;
            println!("{name} has the role {role}; the configuration has version {version}");
            Ok(())
        }
        User::Password { name, password_stdin, none, target } => {
            let password = match (none, password_stdin) {
                (true, _) => None,
                (false, true) => Some(from_stdin()?),
                (false, false) => Some(asked_twice(name)?),
            };
            let request = UserRequest::SetPassword { user: name.clone(), password };
            let (_, version) = ask(target, &request)?;
            let what = if *none { "no password any more" } else { "another password" };
            println!("{name} has {what}; the configuration has version {version}");
            Ok(())
        }
        User::Token(token) => of_token(token),
    }
}

fn of_token(args: &UserToken) -> Result<(), Failure> {
    match args {
        UserToken::Add { user, name, expires, target } => {
            let expires_seconds = expires.map(|span| span.0);
            let request =
                UserRequest::AddToken { user: user.clone(), name: name.clone(), expires_seconds };
            let (answer, _) = ask(target, &request)?;
            let (Some(token), Some(name)) = (answer.token, answer.name) else {
                return Err(Failure::Refused("the node made no token".to_owned()));
            };
            eprintln!(
                "the token '{name}' of {user}, which is shown this once (drop it with \
                 `quorate user token drop {user} {name}`):"
            );
            print(&format!("{token}\n"))
        }
        UserToken::Drop { user, name, target } => {
            let request = UserRequest::DropToken { user: user.clone(), name: name.clone() };
            let (_, version) = ask(target, &request)?;
            println!(
                "the token '{name}' of {user} is dropped; the configuration has version {version}"
            );
            Ok(())
        }
    }
}

fn ask(target: &Target, request: &UserRequest) -> Result<(UserAnswer, u64), Failure> {
    let answer: UserAnswer = Client::find(target)?.post("/users", request)?;
    let version = changed(answer.change.clone())?;
    Ok((answer, version))
}

fn role_of(role: UserRole) -> Role {
    match role {
        UserRole::Reader => Role::Reader,
        UserRole::Writer => Role::Writer,
        UserRole::Admin => Role::Admin,
    }
}

/// The first line of standard input.
fn from_stdin() -> Result<Password, Failure> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::Usage(format!("standard input: {error}")))?;
    let line = line.trim_end_matches(['\n', '\r']);
    if line.is_empty() {
        let problem = "--password-stdin: there is no password in the first line of standard input";
        return Err(Failure::Usage(problem.to_owned()));
    }
    Ok(line.to_owned().into())
}

fn asked_twice(name: &str) -> Result<Password, Failure> {
    let otherwise = "the new password can be asked for on a terminal only: give it with \
                     --password-stdin";
    let first = asked(&format!("New password of {name}: "), otherwise)?;
    let second = asked("The same again: ", otherwise)?;
    if first != second {
        return Err(Failure::Usage("the two are not the same: nothing was changed".to_owned()));
    }
    Ok(first.into())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn list(users: &[UserView], now: u64) -> String {
    if users.is_empty() {
        return "there are no users: only the machines of the nodes themselves may connect; add one \
                with `quorate user add NAME --role admin`\n"
            .to_owned();
    }
    let mut table = table(&["USER", "ROLE", "PASSWORD", "TOKENS"]);
    for user in users {
        let tokens: Vec<String> = user.tokens.iter().map(|token| told(token, now)).collect();
        let tokens = if tokens.is_empty() { "-".to_owned() } else { tokens.join("\n") };
        let password = if user.password { "yes" } else { "-" };
        table.add_row([user.user.as_str(), &user.role.to_string(), password, &tokens]);
    }
    format!("{table}\n")
}

/// A token, how old it is, and how long it is good.
fn told(token: &TokenView, now: u64) -> String {
    let age = span(now.saturating_sub(token.made));
    let ends = match token.expires {
        None => String::new(),
        Some(_) if token.expired => ", expired".to_owned(),
        Some(at) => format!(", expires in {}", span(at.saturating_sub(now))),
    };
    format!("{} (made {age} ago{ends})", token.name)
}

/// Rounded, in the largest unit that it fills.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let fits = units.iter().find(|(length, _)| seconds >= *length);
    fits.map_or(format!("{seconds} s"), |(length, unit)| {
        format!("{} {unit}", (seconds + length / 2) / length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_listed_with_what_is_known_of_their_tokens() {
        let token = |name: &str, expires, expired| TokenView {
            name: name.to_owned(),
            made: 1000,
            expires,
            expired,
        };
        let user =
            |tokens| UserView { user: "ada".to_owned(), role: Role::Admin, password: true, tokens };
        let tokens = vec![
            token("a", None, false),
            token("b", Some(1000 + 90 * 86_400), false),
            token("c", Some(1001), true),
        ];
        let text = list(&[user(tokens)], 1000 + 2 * 3600);
        for part in ["ada", "admin", "yes", "a (made 2 h ago)", "expires in 90 d", "ago, expired"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(list(&[], 0).contains("quorate user add"));
    }
}
