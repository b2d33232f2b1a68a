//! Who may use the cluster over HTTP: users, their roles, and the hashes of what they prove it with.
//!
//! The document holds hashes only, and they never print. What they are hashes of is the adapter's
//! business; here they are compared for nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Applied, change};
use super::document::Configuration;
use super::rejection::Rejection;

/// What a user may do; each role may do what the ones before it may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Sees the cluster and reads databases.
    Reader,
    /// Writes to databases.
    Writer,
    /// Everything else.
    Admin,
}

impl fmt::Display for UserRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        })
    }
}

/// A password, hashed by Argon2id, as a PHC string. It does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash(pub String);

impl PasswordHash {
    /// The longest hash, in bytes.
    pub const BYTES_MAX: usize = 256;
    /// How it begins: any other function is too quick for what people think of as passwords.
    const PREFIX: &'static str = "$argon2id$";

    fn is_well_formed(&self) -> bool {
        let text = &self.0;
        text.starts_with(Self::PREFIX)
            && text.len() <= Self::BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The BLAKE3 hash of a token. A token is 256 random bits: nobody finds it by trying, so that a
/// slow hash would protect nothing. It does not print.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A token of a user, as far as it is written down. Whether it has expired is for those to say who
/// have a wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessToken {
    /// What is kept of it.
    pub hash: TokenHash,
    /// When it was made, in seconds since 1970, by the clock of the node that made it.
    pub made: u64,
    /// From when on it is worth nothing, in seconds since 1970.
    pub expires: Option<u64>,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// What it may do.
    pub role: UserRole,
    /// Without one it has tokens only.
    pub password: Option<PasswordHash>,
    /// By name; at most [`User::TOKENS_MAX`].
    pub tokens: BTreeMap<String, AccessToken>,
}

impl User {
    /// How many tokens a user may have.
    pub const TOKENS_MAX: usize = 32;
}

/// A change of one user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum UserChange {
    /// A new one, without tokens. The first must be an admin.
    Add {
        /// What it may do.
        role: UserRole,
        /// Its password.
        password: Option<PasswordHash>,
    },
    /// It goes, with all its tokens.
    Drop,
    /// It may do more, or less.
    Role(UserRole),
    /// It gets another password, or none.
    Password(Option<PasswordHash>),
    /// It gets another token.
    AddToken {
        /// What the token is called.
        name: String,
        /// What is kept of it.
        token: AccessToken,
    },
    /// A token is worth nothing any more.
    DropToken {
        /// What it is called.
        name: String,
    },
}

/// Whether `name` can be a user's or a token's: 1 to 64 letters, digits, `-`, `_`, `.` and `@`, the
/// first a letter or digit. No colon, which ends the name where it stands before a password.
///
/// # Errors
/// [`Rejection::BadUserName`].
pub fn check_user_name(name: &str) -> Result<(), Rejection> {
    let fits = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c));
    if fits {
        Ok(())
    } else {
        Err(Rejection::BadUserName { name: name.chars().take(80).collect() })
    }
}

pub(super) fn transition(
    held: &mut Configuration,
    name: &str,
    asked: &UserChange,
) -> Result<Applied, Rejection> {
    match asked {
        UserChange::Add { role, password } => add(held, name, *role, password.as_ref()),
        UserChange::Drop => drop_user(held, name),
        UserChange::Role(role) => set_role(held, name, *role),
        UserChange::Password(password) => {
            check_password(name, password.as_ref())?;
            Ok(change(&mut user_mut(held, name)?.password, password.clone()))
        }
        UserChange::AddToken { name: token, token: value } => add_token(held, name, token, *value),
        UserChange::DropToken { name: token } => drop_token(held, name, token),
    }
}

fn add(
    held: &mut Configuration,
    name: &str,
    role: UserRole,
    password: Option<&PasswordHash>,
) -> Result<Applied, Rejection> {
    check_user_name(name)?;
    check_password(name, password)?;
    if held.users.contains_key(name) {
        return Err(Rejection::UserExists { name: name.to_owned() });
    }
    if held.users.is_empty() && role != UserRole::Admin {
        return Err(Rejection::FirstUser { name: name.to_owned(), role });
    }
    if held.users.len() >= Configuration::USERS_MAX {
        return Err(Rejection::TooManyUsers { max: Configuration::USERS_MAX });
    }
    let user = User { role, password: password.cloned(), tokens: BTreeMap::new() };
    held.users.insert(name.to_owned(), Arc::new(user));
    Ok(Applied::Changed)
}

fn check_password(name: &str, password: Option<&PasswordHash>) -> Result<(), Rejection> {
    match password.is_none_or(PasswordHash::is_well_formed) {
        true => Ok(()),
        false => Err(Rejection::BadPasswordHash { name: name.chars().take(80).collect() }),
    }
}

fn drop_user(held: &mut Configuration, name: &str) -> Result<Applied, Rejection> {
    if !held.users.contains_key(name) {
        return Err(unknown(name));
    }
    // The very last user may go, whatever it is: then only the machines themselves are let in.
    if held.users.len() > 1 {
        check_admin_stays(held, name)?;
    }
    held.users.remove(name);
    Ok(Applied::Changed)
}

fn set_role(held: &mut Configuration, name: &str, role: UserRole) -> Result<Applied, Rejection> {
    let user = held.users.get(name).ok_or_else(|| unknown(name))?;
    if user.role == role {
        return Ok(Applied::Unchanged);
    }
    check_admin_stays(held, name)?;
    Ok(change(&mut user_mut(held, name)?.role, role))
}

/// Users without an admin could only be changed on the servers themselves.
fn check_admin_stays(held: &Configuration, name: &str) -> Result<(), Rejection> {
    let mut others = held.users.iter().filter(|(other, _)| *other != name);
    match others.any(|(_, user)| user.role == UserRole::Admin) {
        true => Ok(()),
        false => match held.users.get(name).is_some_and(|user| user.role == UserRole::Admin) {
            true => Err(Rejection::LastAdmin { name: name.to_owned() }),
            false => Ok(()),
        },
    }
}

fn add_token(
    held: &mut Configuration,
    name: &str,
    token: &str,
    value: AccessToken,
) -> Result<Applied, Rejection> {
    check_user_name(token)?;
    let user = user_mut(held, name)?;
    if user.tokens.contains_key(token) {
        let (user, token) = (name.to_owned(), token.to_owned());
        return Err(Rejection::TokenExists { user, token });
    }
    if user.tokens.len() >= User::TOKENS_MAX {
        return Err(Rejection::TooManyTokens { user: name.to_owned(), max: User::TOKENS_MAX });
    }
    user.tokens.insert(token.to_owned(), value);
    Ok(Applied::Changed)
}

fn drop_token(held: &mut Configuration, name: &str, token: &str) -> Result<Applied, Rejection> {
    match user_mut(held, name)?.tokens.remove(token) {
        Some(_) => Ok(Applied::Changed),
        None => {
            let (user, token) = (name.to_owned(), token.chars().take(80).collect());
            Err(Rejection::UnknownToken { user, token })
        }
    }
}

fn unknown(name: &str) -> Rejection {
    Rejection::UnknownUser { name: name.chars().take(80).collect() }
}

/// The user, to be changed: nobody else sees it before the document is whole again.
fn user_mut<'a>(held: &'a mut Configuration, name: &str) -> Result<&'a mut User, Rejection> {
    held.users.get_mut(name).map(Arc::make_mut).ok_or_else(|| unknown(name))
}
