//! Who may ask what: peers, credentials, roles.
//!
//! ```text
//! credentials   what a request shows
//! tokens        users' tokens: made, hashed, found again
//! passwords     users' passwords: hashed, verified, remembered
//! failures      who has guessed too often
//! refusals      what is said to whoever is not let in
//! ```
//!
//! Without any user only this machine itself is let in: it may look, and with the node's own admin token
//! do everything. With users everybody says who it is. The admin token goes on being an admin.
//!
//! What is decided here is decided by the document that this node has applied: one that is cut off from
//! its cluster knows the users as they were.

mod credentials;
mod failures;
mod passwords;
mod refusals;
mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use quorate_core::client::Rights;
use quorate_core::configuration::{Configuration, PasswordHash, TokenHash, UserRole};

pub(crate) use passwords::Password;
pub(super) use tokens::{generate, is_over};

pub(super) use self::credentials::Given;
use self::failures::Failures;
use self::passwords::{Passwords, Unverified};
pub(super) use self::refusals::Shut;
use self::refusals::{Denied, denied, may_not};
use self::tokens::Tokens;
use super::{App, refuse};
use crate::token::Token;

/// What a path asks of who wants it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Need {
    /// A reader; without users anybody on this machine: status and layout.
    Look,
    /// A reader: what databases hold.
    Query,
    /// A writer.
    Write,
    /// An admin.
    Admin,
}

impl Need {
    fn role(self) -> UserRole {
        match self {
            Self::Look | Self::Query => UserRole::Reader,
            Self::Write => UserRole::Writer,
            Self::Admin => UserRole::Admin,
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    ip: IpAddr,
    /// It is on this machine: nothing that it sends or is sent comes by a wire.
    local: bool,
}

impl Peer {
    /// `own`: the address of this end. A connection from an address to itself does not leave the
    /// machine, and the system takes nothing from outside that says to come from there: a node that
    /// listens on one outer address only can be reached so by those who run it.
    pub(crate) fn new(peer: SocketAddr, own: Option<SocketAddr>) -> Self {
        let ip = peer.ip().to_canonical();
        let own = own.map(|own| own.ip().to_canonical());
        Self { ip, local: ip.is_loopback() || own == Some(ip) }
    }
}

/// By what somebody is known. It is looked at again whenever that counts: a role may have changed.
#[derive(Clone, Debug)]
enum Proof {
    /// It is on this machine, and there are no users.
    Local,
    /// The node's admin token.
    AdminToken,
    /// A user's token.
    Token { user: String, token: String, hash: TokenHash },
    /// A user's password.
    Password { user: String, hash: PasswordHash },
}

/// Somebody who is let in.
#[derive(Clone, Debug)]
pub(crate) struct Who(Proof);

#[cfg(test)]
impl Who {
    /// The holder of the admin token.
    pub(super) fn admin() -> Self {
        Self(Proof::AdminToken)
    }

    /// Somebody who has shown a password.
    pub(super) fn user(name: &str) -> Self {
        Self(Proof::Password { user: name.to_owned(), hash: PasswordHash(String::new()) })
    }
}

impl Who {
    /// For messages and logs.
    pub(super) fn name(&self) -> &str {
        match &self.0 {
            Proof::Local => "somebody on this machine",
            Proof::AdminToken => "the holder of the node's admin token",
            Proof::Token { user, .. } | Proof::Password { user, .. } => user,
        }
    }

    /// The role that it has by `document`; `None`: none (any more).
    fn role(&self, document: Option<&Configuration>) -> Option<UserRole> {
        let user = |name: &str| document.and_then(|document| document.users.get(name));
        match &self.0 {
            Proof::Local => None,
            Proof::AdminToken => Some(UserRole::Admin),
            Proof::Token { user: name, token, hash } => {
                let user = user(name)?;
                let held = user.tokens.get(token).filter(|held| held.hash == *hash)?;
                (!tokens::is_over(held, SystemTime::now())).then_some(user.role)
            }
            Proof::Password { user: name, hash } => {
                let user = user(name)?;
                (user.password.as_ref() == Some(hash)).then_some(user.role)
            }
        }
    }

    /// Whether the other is the same somebody, by whatever it is known this time.
    pub(super) fn is(&self, other: &Self) -> bool {
        use Proof::{AdminToken, Local, Password, Token};
        match (&self.0, &other.0) {
            (Local, Local) | (AdminToken, AdminToken) => true,
            (
                Token { user, .. } | Password { user, .. },
                Token { user: other, .. } | Password { user: other, .. },
            ) => user == other,
            _ => false,
        }
    }

    /// Whether it may, by `document`.
    pub(super) fn may(&self, need: Need, document: Option<&Configuration>) -> bool {
        match &self.0 {
            Proof::Local => need == Need::Look && !has_users(document),
            _ => self.role(document).is_some_and(|role| role >= need.role()),
        }
    }
}

fn has_users(document: Option<&Configuration>) -> bool {
    document.is_some_and(|document| !document.users.is_empty())
}

/// What can be said at once of who asks.
enum Known {
    Yes(Who),
    No(Denied),
    /// A password that has to be verified, which takes its time.
    Verify {
        user: String,
        password: Password,
    },
}

/// Decides who may ask what.
pub(super) struct Access {
    admin: Token,
    tokens: Tokens,
    passwords: Passwords,
    failures: Failures,
}

impl Access {
    pub(super) fn new(admin: Token) -> std::io::Result<Self> {
        Ok(Self {
            admin,
            tokens: Tokens::default(),
            passwords: Passwords::new()?,
            failures: Failures::default(),
        })
    }

    /// Makes of a password what the document holds of it; takes its time, and waits for others.
    ///
    /// # Errors
    /// Why not, with the status that says so.
    pub(super) async fn hash(&self, password: Password) -> Result<PasswordHash, Response> {
        self.passwords.hash(password).await.map_err(|problem| match problem {
            Unverified::Busy => denied(&Denied::Busy),
            Unverified::Unfit(problem) => refuse(StatusCode::BAD_REQUEST, problem),
        })
    }

    fn known(&self, peer: Peer, given: Given<'_>, document: Option<&Arc<Configuration>>) -> Known {
        let users = has_users(document.map(Arc::as_ref));
        if !users && !peer.local {
            return Known::No(match document {
                Some(_) => Denied::NotLocal,
                None => Denied::InNoCluster,
            });
        }
        if let Given::Bearer(token) = &given
            && self.admin.is(token)
        {
            return Known::Yes(Who(Proof::AdminToken));
        }
        let Some(document) = document.filter(|_| users) else {
            return Known::Yes(Who(Proof::Local));
        };
        match given {
            Given::Nothing => Known::No(Denied::Nameless),
            Given::Unreadable => Known::No(Denied::Unreadable),
            Given::Bearer(token) => self.by_token(token, document),
            Given::Basic { user, password } => {
                let stored = document.users.get(&user).and_then(|held| held.password.as_ref());
                match stored.filter(|stored| self.passwords.remembers(&user, &password, stored)) {
                    Some(hash) => {
                        let hash = hash.clone();
                        Known::Yes(Who(Proof::Password { user, hash }))
                    }
                    None => Known::Verify { user, password },
                }
            }
        }
    }

    fn by_token(&self, token: &str, document: &Arc<Configuration>) -> Known {
        let Some((user, name, hash)) = self.tokens.find(token, document) else {
            return Known::No(Denied::Wrong);
        };
        let who = Who(Proof::Token { user: user.clone(), token: name.clone(), hash });
        match who.role(Some(document)) {
            Some(_) => Known::Yes(who),
            None => Known::No(Denied::Expired { user, token: name }),
        }
    }

    /// Counts a wrong token against the address that it came from. Nobody finds one by trying; whoever
    /// tries all the same is made to wait.
    fn counted(&self, peer: Peer, why: Denied) -> Denied {
        match why {
            Denied::Wrong => match self.failures.attempt(peer.ip, Instant::now()) {
                Ok(()) => Denied::Wrong,
                Err(seconds) => Denied::TooOften { seconds },
            },
            other => other,
        }
    }

    async fn verify(
        &self,
        peer: Peer,
        user: String,
        password: Password,
        document: &Configuration,
    ) -> Result<Who, Denied> {
        // Counted before it is known whether it is right, that many at once get no further.
        let now = Instant::now();
        self.failures.attempt(peer.ip, now).map_err(|seconds| Denied::TooOften { seconds })?;
        let stored = document.users.get(&user).and_then(|held| held.password.clone());
        match self.passwords.verify(&user, password, stored, document).await {
            Ok(Some(hash)) => {
                self.failures.pardon(peer.ip);
                Ok(Who(Proof::Password { user, hash }))
            }
            Ok(None) => Err(Denied::Wrong),
            Err(_) => {
                self.failures.pardon(peer.ip);
                Err(Denied::Busy)
            }
        }
    }
}

/// Whether a request may be carried out, as far as that is known without waiting.
pub(super) fn at_once(app: &App, peer: Peer, headers: &HeaderMap, need: Need) -> bool {
    let document = app.handle.configuration();
    match app.access.known(peer, Given::of(headers), document.as_ref()) {
        Known::Yes(who) => who.may(need, document.as_deref()),
        Known::No(_) | Known::Verify { .. } => false,
    }
}

/// Who connects to the port for clients, by the token that it shows.
///
/// # Errors
/// Why it is not let in, in words; and whether every other node would say the same.
pub(crate) fn client(app: &App, peer: Peer, token: Option<&str>) -> Result<Who, (String, bool)> {
    let document = app.handle.configuration();
    let given = token.map_or(Given::Nothing, Given::Bearer);
    let why = match app.access.known(peer, given, document.as_ref()) {
        Known::Yes(who) => return Ok(who),
        Known::No(Denied::Nameless) => {
            let said = "this cluster has users: give a token; an admin makes one with \
                        `quorate user token`";
            return Err((said.to_owned(), true));
        }
        Known::No(why) => app.access.counted(peer, why),
        // Tokens are not verified like passwords.
        Known::Verify { .. } => Denied::Wrong,
    };
    tracing::debug!(peer = %peer.ip, ?why, "a client is not let in");
    // One that has just started knows the users of before.
    let behind = app.handle.layout().coordinator.is_none();
    let here_only =
        behind || matches!(why, Denied::InNoCluster | Denied::TooOften { .. } | Denied::Busy);
    Err((refusals::in_words(&why).1, !here_only))
}

/// What somebody who was let in may do as a client now; `None`: not even look, any more.
pub(crate) fn rights(app: &App, who: &Who) -> Option<Rights> {
    let document = app.handle.configuration();
    let may = |need| who.may(need, document.as_deref());
    let all =
        [(Need::Write, Rights::Write), (Need::Query, Rights::Read), (Need::Look, Rights::Look)];
    all.into_iter().find(|(need, _)| may(*need)).map(|(_, rights)| rights)
}

/// Whether somebody who was let in to look still may.
pub(super) fn still(who: &Who, document: &Configuration) -> bool {
    who.may(Need::Look, Some(document))
}

/// Lets only those through who may look.
pub(super) async fn look(state: State<App>, request: Request, next: Next) -> Response {
    guard(state.0, Need::Look, request, next).await
}

/// Lets only those through who may query.
pub(super) async fn query(state: State<App>, request: Request, next: Next) -> Response {
    guard(state.0, Need::Query, request, next).await
}

/// Lets only those through who may write.
pub(super) async fn write(state: State<App>, request: Request, next: Next) -> Response {
    guard(state.0, Need::Write, request, next).await
}

/// Lets only those through who may do everything.
pub(super) async fn admin(state: State<App>, request: Request, next: Next) -> Response {
    guard(state.0, Need::Admin, request, next).await
}

async fn guard(app: App, need: Need, mut request: Request, next: Next) -> Response {
    // Set for every connection; a request without one is nobody's.
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return denied(&Denied::NotLocal);
    };
    match admit(&app, peer, request.headers(), need).await {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(shut) => shut.into_response(),
    }
}

/// Who it is that asks, if it may.
///
/// # Errors
/// What is said to it instead.
pub(super) async fn admit(
    app: &App,
    peer: Peer,
    headers: &HeaderMap,
    need: Need,
) -> Result<Who, Shut> {
    let document = app.handle.configuration();
    let who = match app.access.known(peer, Given::of(headers), document.as_ref()) {
        Known::Yes(who) => Ok(who),
        Known::No(why) => Err(app.access.counted(peer, why)),
        Known::Verify { user, password } => match document.as_deref() {
            Some(document) => app.access.verify(peer, user, password, document).await,
            None => Err(Denied::InNoCluster),
        },
    };
    match who {
        Err(why) => {
            tracing::debug!(peer = %peer.ip, ?why, "not let in");
            Err(Shut::from(&why))
        }
        Ok(who) if who.may(need, document.as_deref()) => Ok(who),
        Ok(who) => Err(may_not(&who, need, document.as_deref())),
    }
}

#[cfg(test)]
mod tests;
