//! `quorate user …`.

use clap::{Subcommand, ValueEnum};

use super::Target;

/// `quorate user …`.
#[derive(Subcommand, Debug)]
#[command(after_help = "\
A reader sees the cluster and reads databases, a writer writes to them too, an admin does all
else. While there is no user, only the machines of the nodes themselves may connect. The first
user is an admin; from then on everybody needs a token or a password. On a node's own machine
the admin.token in its data directory goes on working, so that nobody is locked out.")]
pub(crate) enum User {
    /// Add a user
    #[command(after_help = "\
Examples:
  quorate user add ada --role admin
  quorate user add app --role writer            and then: quorate user token add app
  quorate user add bob --role reader --password-stdin < password.txt")]
    Add {
        /// Its name: 1 to 64 letters, digits, '-', '_', '.' and '@'
        name: String,
        /// What it may do
        #[arg(long)]
        role: UserRole,
        /// Give it the password in the first line of standard input: 8 to 1024 bytes
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List the users and their tokens; no secret is shown, for none is kept
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Drop a user, with all its tokens
    #[command(after_help = "Example:\n  quorate user drop bob")]
    Drop {
        /// Its name
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a user do more, or less
    #[command(after_help = "Example:\n  quorate user role bob writer")]
    Role {
        /// Its name
        name: String,
        /// What it may do
        role: UserRole,
        #[command(flatten)]
        target: Target,
    },
    /// Give a user another password: it is asked for, unless it comes by standard input
    #[command(after_help = "\
Examples:
  quorate user password ada
  quorate user password ada --password-stdin < password.txt
  quorate user password ada --none              tokens only")]
    Password {
        /// Its name
        name: String,
        /// Take the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        /// No password any more
        #[arg(long, conflicts_with = "password_stdin")]
        none: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Make and drop tokens, by which programs are known
    #[command(subcommand)]
    Token(UserToken),
}

/// `quorate user token …`.
#[derive(Subcommand, Debug)]
pub(crate) enum UserToken {
    /// Make a token for a user and print it: this once, for only its hash is kept
    #[command(after_help = "\
Examples:
  quorate user token add app
  quorate user token add app --name ci --expires 90d
  QUORATE_TOKEN=$(quorate user token add app)   standard output has the token and nothing else")]
    Add {
        /// The user
        user: String,
        /// What the token is called [default: token-1, token-2, ...]
        #[arg(long)]
        name: Option<String>,
        /// How long it is good: a number and s, m, h, d or w [default: until it is dropped]
        #[arg(long, value_name = "SPAN")]
        expires: Option<Span>,
        #[command(flatten)]
        target: Target,
    },
    /// Drop a token: no server takes it any more
    #[command(after_help = "Example:\n  quorate user token drop app ci")]
    Drop {
        /// The user
        user: String,
        /// What the token is called
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

/// What a user may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum UserRole {
    /// Sees the cluster, reads databases.
    Reader,
    /// Writes to databases too.
    Writer,
    /// All else.
    Admin,
}

/// A span of time, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span(pub(crate) u64);

impl std::str::FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600), ('w', 7 * 24 * 3600)];
        let parsed = units.iter().find_map(|(unit, seconds)| {
            let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
            number.checked_mul(*seconds)
        });
        let most = crate::http::EXPIRES_MAX.as_secs();
        parsed
            .filter(|seconds| (1..=most).contains(seconds))
            .map(Self)
            .ok_or("give a number and s, m, h, d or w, such as 90d; at most a hundred years")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_its_unit() {
        for (text, seconds) in
            [("1s", 1), ("5m", 300), ("2h", 7200), ("90d", 7_776_000), ("1w", 604_800)]
        {
            assert_eq!(text.parse(), Ok(Span(seconds)));
        }
        for wrong in ["", "0d", "90", "d", "-1d", "1.5d", "1y", "36501d", "99999999999999999999d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
