//! Who is let in, without a node.

use std::time::UNIX_EPOCH;

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_core::configuration::{
    AccessToken, Addresses, ConfigCommand, Defaults, UserChange, apply,
};
use quorate_core::{ClusterId, NodeId, Start};

use super::refusals::in_words;
use super::*;

/// A cluster of one server, without users.
pub(super) fn founded() -> Configuration {
    let mut document = None;
    let node = SocketAddr::from(([127, 0, 0, 1], 2434));
    let found = ConfigCommand::Found {
        cluster: ClusterId(1),
        group: "demo".to_owned(),
        node: NodeId(1),
        name: "n1".to_owned(),
        addresses: Addresses { node, client: None, http: None },
        start: Start { number: 1, nonce: 1 },
        defaults: Defaults::default(),
    };
    apply(&mut document, &found).unwrap();
    document.unwrap()
}

fn with(document: &Configuration, user: &str, change: UserChange) -> Configuration {
    let mut document = Some(document.clone());
    apply(&mut document, &ConfigCommand::User { name: user.to_owned(), change }).unwrap();
    document.unwrap()
}

fn token_of(hash: TokenHash, expires: Option<u64>) -> UserChange {
    let token = AccessToken { hash, made: 0, expires };
    UserChange::AddToken { name: "t".to_owned(), token }
}

fn add(role: UserRole) -> UserChange {
    UserChange::Add { role, password: None }
}

/// An admin, a writer and a reader of these names, each with a token; the tokens in that order.
fn three() -> (Configuration, [String; 3]) {
    let mut document = founded();
    let roles = [UserRole::Admin, UserRole::Writer, UserRole::Reader];
    let tokens = roles.map(|role| {
        let (token, hash) = generate().unwrap();
        let name = role.to_string();
        document = with(&with(&document, &name, add(role)), &name, token_of(hash, None));
        token.to_string()
    });
    (document, tokens)
}

struct World {
    access: Access,
    admin: String,
    document: Option<Arc<Configuration>>,
}

impl World {
    fn new(document: Option<Configuration>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let token = Token::of(data.path()).unwrap();
        token.write(data.path()).unwrap();
        let admin = std::fs::read_to_string(crate::token::path(data.path())).unwrap();
        let access = Access::new(token).unwrap();
        Self { access, admin: admin.trim().to_owned(), document: document.map(Arc::new) }
    }

    fn known(&self, from: &str, shown: &str) -> Known {
        let mut headers = HeaderMap::new();
        if !shown.is_empty() {
            headers.insert(header::AUTHORIZATION, shown.parse().unwrap());
        }
        self.access.known(peer(from), Given::of(&headers), self.document.as_ref())
    }

    /// The most that somebody may, or why nothing.
    fn may(&self, from: &str, shown: &str) -> String {
        let needs = [Need::Admin, Need::Write, Need::Query, Need::Look];
        match self.known(from, shown) {
            Known::No(why) => format!("{:?}", self.access.counted(peer(from), why)),
            Known::Verify { user, .. } => format!("verify {user}"),
            Known::Yes(who) => {
                let may = |need: &Need| who.may(*need, self.document.as_deref());
                needs.into_iter().find(may).map_or("nothing".to_owned(), |need| format!("{need:?}"))
            }
        }
    }
}

fn peer(ip: &str) -> Peer {
    Peer::new(SocketAddr::new(ip.parse().unwrap(), 1), Some(([10, 0, 0, 1], 2480).into()))
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

const HERE: [&str; 5] = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.0.0.1"];
const ELSEWHERE: [&str; 4] = ["10.0.0.2", "0.0.0.0", "::ffff:10.0.0.2", "fe80::1"];

#[test]
fn without_users_only_this_machine_is_let_in_whatever_is_shown() {
    let world = World::new(Some(founded()));
    for from in HERE {
        assert_eq!(world.may(from, ""), "Look", "{from}");
        assert_eq!(world.may(from, &bearer("wrong")), "Look", "{from}");
        assert_eq!(world.may(from, &bearer(&world.admin)), "Admin", "{from}");
    }
    for from in ELSEWHERE {
        for shown in ["", &bearer("wrong"), &bearer(&world.admin), &basic("ada", "x")] {
            assert_eq!(world.may(from, shown), "NotLocal", "{from}");
        }
    }
}

#[test]
fn before_there_is_a_cluster_nobody_from_elsewhere_is_let_in() {
    let world = World::new(None);
    assert_eq!(world.may("127.0.0.1", ""), "Look");
    assert_eq!(world.may("127.0.0.1", &bearer(&world.admin)), "Admin");
    assert_eq!(world.may("10.0.0.2", &bearer(&world.admin)), "InNoCluster");
}

#[test]
fn with_users_everybody_says_who_it_is_and_may_what_the_role_says() {
    let (document, [admin, writer, reader]) = three();
    let world = World::new(Some(document));
    for from in HERE.into_iter().chain(ELSEWHERE) {
        assert_eq!(world.may(from, ""), "Nameless", "{from}");
        assert_eq!(world.may(from, "Negotiate x"), "Unreadable", "{from}");
        assert_eq!(world.may(from, &bearer(&admin)), "Admin", "{from}");
        assert_eq!(world.may(from, &bearer(&writer)), "Write", "{from}");
        assert_eq!(world.may(from, &bearer(&reader)), "Query", "{from}");
        assert_eq!(world.may(from, &bearer(&world.admin)), "Admin", "{from}");
        let wrong = bearer(&admin[..admin.len() - 1]);
        assert_eq!(world.may(from, &wrong), "Wrong", "{from}");
        assert_eq!(world.may(from, &basic("admin", "guess")), "verify admin");
    }
}

#[test]
fn a_token_is_worth_what_the_document_says_at_that_moment() {
    let (document, [_, writer, _]) = three();
    let mut world = World::new(Some(document.clone()));
    let Known::Yes(who) = world.known("10.0.0.2", &bearer(&writer)) else { panic!() };
    assert!(still(&who, &document));
    let demoted = with(&document, "writer", UserChange::Role(UserRole::Reader));
    world.document = Some(Arc::new(demoted.clone()));
    assert_eq!(world.may("10.0.0.2", &bearer(&writer)), "Query");
    assert!(still(&who, &demoted) && !who.may(Need::Write, Some(&demoted)));
    let gone = with(&document, "writer", UserChange::DropToken { name: "t".to_owned() });
    world.document = Some(Arc::new(gone.clone()));
    assert_eq!(world.may("10.0.0.2", &bearer(&writer)), "Wrong");
    assert!(!still(&who, &gone), "who listens is sent away");
    let (_, other) = generate().unwrap();
    let again = with(&gone, "writer", token_of(other, None));
    assert!(!still(&who, &again), "another token of that name is another token");
}

#[test]
fn whoever_listened_without_a_name_is_sent_away_by_the_first_user() {
    let world = World::new(Some(founded()));
    let Known::Yes(who) = world.known("127.0.0.1", "") else { panic!() };
    assert!(still(&who, &founded()));
    assert!(!still(&who, &with(&founded(), "ada", add(UserRole::Admin))));
}

#[test]
fn an_expired_token_is_told_from_a_wrong_one() {
    let (document, _) = three();
    let (token, hash) = generate().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let document = with(&document, "bob", add(UserRole::Reader));
    let mut world = World::new(Some(with(&document, "bob", token_of(hash, Some(now - 1)))));
    let said = world.may("10.0.0.2", &bearer(&token));
    assert_eq!(said, "Expired { user: \"bob\", token: \"t\" }");
    world.document = Some(Arc::new(with(&document, "bob", token_of(hash, Some(now + 600)))));
    assert_eq!(world.may("10.0.0.2", &bearer(&token)), "Query");
}

#[test]
fn whoever_guesses_tokens_waits_and_whoever_has_one_does_not() {
    let (document, [_, writer, _]) = three();
    let world = World::new(Some(document));
    for number in 0..10 {
        assert_eq!(world.may("10.0.0.2", &bearer(&format!("guess{number}"))), "Wrong");
    }
    let said = world.may("10.0.0.2", &bearer("guess"));
    assert!(said.starts_with("TooOften"), "{said}");
    assert_eq!(world.may("10.0.0.2", &bearer(&writer)), "Write", "from the same address");
    assert_eq!(world.may("10.0.0.3", &bearer("guess")), "Wrong");
}

#[tokio::test]
async fn passwords_are_verified_counted_and_remembered() {
    let world = World::new(None);
    let Ok(stored) = world.access.hash("correct horse".to_owned().into()).await else { panic!() };
    let change = UserChange::Add { role: UserRole::Admin, password: Some(stored) };
    let document = with(&founded(), "ada", change);
    let world = World { document: Some(Arc::new(document.clone())), ..world };
    let verify = |from: &str, user: &str, password: &str| {
        let (user, password) = (user.to_owned(), password.to_owned().into());
        world.access.verify(peer(from), user, password, &document)
    };
    let who = verify("10.0.0.2", "ada", "correct horse").await.unwrap();
    assert!(who.may(Need::Admin, Some(&document)) && who.name() == "ada");
    assert_eq!(world.may("10.0.0.9", &basic("ada", "correct horse")), "Admin", "remembered");
    for user in ["ada", "nobody"] {
        assert_eq!(verify("10.0.0.3", user, "wrong").await.unwrap_err(), Denied::Wrong);
    }
    for _ in 0..8 {
        let _ = verify("10.0.0.3", "ada", "wrong").await;
    }
    let often = verify("10.0.0.3", "ada", "correct horse").await.unwrap_err();
    assert!(matches!(often, Denied::TooOften { .. }), "{often:?}");
    assert_eq!(world.may("10.0.0.3", &basic("ada", "correct horse")), "Admin", "but remembered");
}

#[test]
fn every_refusal_says_what_to_do_and_has_its_status() {
    let user = || ("ada".to_owned(), "ci".to_owned());
    let (name, token) = user();
    let cases = [
        (Denied::NotLocal, 403, "quorate user add"),
        (Denied::InNoCluster, 503, "ask another"),
        (Denied::Nameless, 401, "Authorization: Bearer"),
        (Denied::Unreadable, 401, "base64"),
        (Denied::Wrong, 401, "not those of a user"),
        (Denied::Expired { user: name, token }, 401, "quorate user token add ada"),
        (Denied::TooOften { seconds: 4 }, 429, "in 4 s"),
        (Denied::Busy, 503, "use a token"),
    ];
    for (why, code, part) in cases {
        let (status, said) = in_words(&why);
        assert!(status.as_u16() == code && said.contains(part), "{status} {said}");
        let response = denied(&why);
        let challenged = response.headers().contains_key(header::WWW_AUTHENTICATE);
        assert_eq!(challenged, code == 401, "{why:?}");
        assert_eq!(response.headers().contains_key(header::RETRY_AFTER), code == 429);
    }
}
