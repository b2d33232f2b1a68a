//! Users: who may be there, and that their secrets are nowhere to be read.

use super::super::{
    AccessToken, Applied, ConfigCommand, Configuration, PasswordHash, Rejection, TokenHash, User,
    UserChange, UserRole, apply, check_user_name,
};
use super::{after, cluster, refused};
use crate::configuration::UserRole::{Admin, Reader, Writer};
use crate::ids::{ClusterId, NodeId};

fn user(name: &str, change: UserChange) -> ConfigCommand {
    ConfigCommand::User { name: name.to_owned(), change }
}

fn add(name: &str, role: UserRole) -> ConfigCommand {
    user(name, UserChange::Add { role, password: None })
}

fn hash(text: &str) -> Option<PasswordHash> {
    Some(PasswordHash(format!("$argon2id$v=19$m=19456,t=2,p=1${text}")))
}

fn token(number: u8) -> AccessToken {
    AccessToken { hash: TokenHash([number; 32]), made: 1_700_000_000, expires: None }
}

fn add_token(name: &str, called: &str, number: u8) -> ConfigCommand {
    user(name, UserChange::AddToken { name: called.to_owned(), token: token(number) })
}

fn drop_token(name: &str, called: &str) -> ConfigCommand {
    user(name, UserChange::DropToken { name: called.to_owned() })
}

/// An admin `ada`, a writer `bob`, a reader `eve`.
fn three() -> Configuration {
    let mut document = cluster(&["n1"]);
    for (name, role) in [("ada", Admin), ("bob", Writer), ("eve", Reader)] {
        document = after(&document, &add(name, role));
    }
    document
}

#[test]
fn a_role_may_do_what_the_ones_below_it_may() {
    assert!(Reader < Writer && Writer < Admin);
}

#[test]
fn the_first_user_is_an_admin() {
    let document = cluster(&["n1"]);
    assert!(document.users.is_empty());
    for role in [Reader, Writer] {
        let expected = Rejection::FirstUser { name: "ada".to_owned(), role };
        assert_eq!(refused(&document, &add("ada", role)), expected);
    }
    assert_eq!(after(&document, &add("ada", Admin)).users["ada"].role, Admin);
}

#[test]
fn a_name_is_taken_once_and_of_safe_characters() {
    let document = three();
    let expected = Rejection::UserExists { name: "bob".to_owned() };
    assert_eq!(refused(&document, &add("bob", Writer)), expected);
    for name in ["a", "ada.l@example.com", "0-_", &"x".repeat(64)] {
        assert_eq!(check_user_name(name), Ok(()), "{name}");
    }
    for name in ["", ".", "..", "-a", "a:b", "a b", "a/b", "a\n", "é", &"x".repeat(65)] {
        let wrong = refused(&document, &add(name, Reader));
        assert!(matches!(wrong, Rejection::BadUserName { .. }), "{name}: {wrong}");
        let wrong = refused(&document, &add_token("bob", name, 1));
        assert!(matches!(wrong, Rejection::BadUserName { .. }), "{name}: {wrong}");
    }
}

#[test]
fn the_last_admin_stays_while_there_are_others() {
    let document = three();
    let expected = Rejection::LastAdmin { name: "ada".to_owned() };
    assert_eq!(refused(&document, &user("ada", UserChange::Drop)), expected);
    for role in [Reader, Writer] {
        assert_eq!(refused(&document, &user("ada", UserChange::Role(role))), expected);
    }
    let two = after(&document, &user("eve", UserChange::Role(Admin)));
    let gone = after(&two, &user("ada", UserChange::Drop));
    assert_eq!(gone.users.keys().collect::<Vec<_>>(), ["bob", "eve"]);
    let expected = Rejection::LastAdmin { name: "eve".to_owned() };
    assert_eq!(refused(&gone, &user("eve", UserChange::Role(Writer))), expected);
}

#[test]
fn the_very_last_user_may_go_and_then_there_is_none() {
    let mut document = three();
    for name in ["bob", "eve", "ada"] {
        document = after(&document, &user(name, UserChange::Drop));
    }
    assert!(document.users.is_empty());
    let alone = after(&document, &add("ada", Admin));
    let expected = Rejection::LastAdmin { name: "ada".to_owned() };
    assert_eq!(refused(&alone, &user("ada", UserChange::Role(Reader))), expected);
}

#[test]
fn nothing_happens_to_a_user_that_is_not_there() {
    let document = three();
    let changes = [
        UserChange::Drop,
        UserChange::Role(Reader),
        UserChange::Password(None),
        UserChange::AddToken { name: "t".to_owned(), token: token(1) },
        UserChange::DropToken { name: "t".to_owned() },
    ];
    for change in changes {
        let expected = Rejection::UnknownUser { name: "zoe".to_owned() };
        assert_eq!(refused(&document, &user("zoe", change)), expected);
    }
}

#[test]
fn a_password_is_an_argon2id_hash_or_none_at_all() {
    let document = three();
    let set = |text: Option<PasswordHash>| user("bob", UserChange::Password(text));
    let with = after(&document, &set(hash("one")));
    assert_eq!(with.users["bob"].password, hash("one"));
    assert_eq!(after(&with, &set(None)).users["bob"].password, None);
    let wrong = ["secret", "$2b$12$abc", "$argon2i$v=19$x", "$argon2id$ x", "$argon2id$\n"];
    let long = format!("$argon2id${}", "x".repeat(PasswordHash::BYTES_MAX));
    for text in wrong.into_iter().chain([long.as_str()]) {
        let given = Some(PasswordHash(text.to_owned()));
        let expected = Rejection::BadPasswordHash { name: "bob".to_owned() };
        assert_eq!(refused(&document, &set(given.clone())), expected);
        let add = UserChange::Add { role: Reader, password: given };
        assert!(matches!(refused(&document, &user("zoe", add)), Rejection::BadPasswordHash { .. }));
    }
}

#[test]
fn tokens_come_and_go_by_name() {
    let document = after(&three(), &add_token("bob", "ci", 1));
    assert_eq!(document.users["bob"].tokens["ci"], token(1));
    let names = || ("bob".to_owned(), "ci".to_owned());
    let (user, token) = names();
    let expected = Rejection::TokenExists { user, token };
    assert_eq!(refused(&document, &add_token("bob", "ci", 2)), expected);
    let document = after(&document, &drop_token("bob", "ci"));
    assert!(document.users["bob"].tokens.is_empty());
    let (user, token) = names();
    let expected = Rejection::UnknownToken { user, token };
    assert_eq!(refused(&document, &drop_token("bob", "ci")), expected);
}

#[test]
fn what_changes_a_user_leaves_the_others_as_they_were() {
    let before = three();
    let changed = after(&before, &user("bob", UserChange::Role(Reader)));
    let changed = after(&changed, &add_token("bob", "ci", 1));
    for name in ["ada", "eve"] {
        assert_eq!(changed.users[name], before.users[name]);
    }
    assert_eq!(before.users["bob"].role, Writer, "a document that somebody holds stays as it is");
    let mut again = Some(changed);
    let same = apply(&mut again, &user("bob", UserChange::Role(Reader)));
    assert_eq!(same, Ok(Applied::Unchanged));
}

#[test]
fn there_are_so_many_users_and_tokens_and_no_more() {
    let mut held = Some(cluster(&["n1"]));
    for number in 0..Configuration::USERS_MAX {
        apply(&mut held, &add(&format!("u{number}"), Admin)).unwrap();
    }
    let full = held.unwrap();
    let max = Configuration::USERS_MAX;
    assert_eq!(refused(&full, &add("more", Reader)), Rejection::TooManyUsers { max });
    let mut held = Some(full);
    for number in 0..User::TOKENS_MAX {
        apply(&mut held, &add_token("u0", &format!("t{number}"), 1)).unwrap();
    }
    let full = held.unwrap();
    let expected = Rejection::TooManyTokens { user: "u0".to_owned(), max: User::TOKENS_MAX };
    assert_eq!(refused(&full, &add_token("u0", "more", 1)), expected);
}

#[test]
fn all_users_that_there_may_be_leave_most_of_the_document_to_databases() {
    let long = |number: usize| format!("{number:0>64}");
    let mut document = cluster(&["n1"]);
    let before = document.encoded_bytes();
    let password = hash(&"x".repeat(60));
    let tokens = (0..User::TOKENS_MAX).map(|n| (long(n), token(1)));
    let user = User { role: Admin, password, tokens: tokens.collect() };
    document.users =
        (0..Configuration::USERS_MAX).map(|n| (long(n), user.clone().into())).collect();
    let bytes = document.encoded_bytes() - before;
    println!("all users: {bytes} bytes");
    assert!(bytes < Configuration::BYTES_MAX / 4, "{bytes}");
}

#[test]
fn no_hash_is_ever_printed() {
    let secret = hash("do-not-print");
    let add = UserChange::Add { role: Admin, password: secret.clone() };
    let document = after(&cluster(&["n1"]), &user("ada", add.clone()));
    let document = after(&document, &add_token("ada", "ci", 0xab));
    let commands = [user("ada", add), add_token("ada", "ci", 0xab)];
    let wrong = PasswordHash("do-not-print".to_owned());
    let wrong = user("ada", UserChange::Password(Some(wrong)));
    let rejection = refused(&document, &wrong);
    for printed in
        [format!("{document:?}"), format!("{commands:?}"), format!("{rejection:?} {rejection}")]
    {
        assert!(!printed.contains("do-not-print") && !printed.contains("argon2"), "{printed}");
        assert!(!printed.contains("171"), "{printed}");
    }
}

#[test]
fn users_outlive_a_recovery_and_travel_with_the_document() {
    let document = after(&three(), &add_token("bob", "ci", 1));
    let (cluster, survivor) = (ClusterId(9), NodeId(1));
    let recovered = after(&document, &ConfigCommand::Recover { cluster, survivor });
    assert_eq!(recovered.users, document.users);
    let bytes = postcard::to_allocvec(&document).unwrap();
    assert_eq!(postcard::from_bytes::<Configuration>(&bytes).unwrap(), document);
}
