//! `quorate://host,host:port/database?key=value`: where a client begins, and how it behaves.

use std::path::PathBuf;
use std::time::Duration;

use quorate_core::client::{Reading, Strategy};

use super::wire::PORT;
use super::{ConnectError, Options};

/// Read from a URL.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Address {
    pub(super) options: Options,
    pub(super) database: String,
    pub(super) shard: Option<String>,
}

/// A database, and a shard of it.
type Place = (String, Option<String>);

/// What may stand behind the question mark, for messages.
const KEYS: &str = "token, strategy, data-center, reading, timeout-ms, tls, tls-ca";

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, ConnectError> {
        let (options, place) = Self::of_cluster(url)?;
        let (database, shard) = place.ok_or_else(|| ConnectError::Url {
            problem: "the database is missing: quorate://host/database".to_owned(),
        })?;
        Ok(Self { options, database, shard })
    }

    /// As [`Address::parse`], of a cluster, with or without a database.
    pub(super) fn of_cluster(url: &str) -> Result<(Options, Option<Place>), ConnectError> {
        let wrong = |problem: String| ConnectError::Url { problem };
        let rest = url.strip_prefix("quorate://").ok_or_else(|| {
            wrong("it begins with quorate://, as in quorate://host1,host2:2424/database".to_owned())
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) =
            rest.split_once('/').map_or((rest, None), |(hosts, path)| (hosts, Some(path)));
        let place = path.map(place).transpose().map_err(wrong)?;
        let seeds = hosts.split(',').map(seed).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let mut options = Options::new(seeds);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            set(&mut options, key, decoded(value).map_err(wrong)?).map_err(wrong)?;
        }
        Ok((options, place))
    }
}

/// `database` or `database/shard`.
fn place(path: &str) -> Result<Place, String> {
    let path = decoded(path)?;
    let (database, shard) = match path.split_once('/') {
        Some((database, shard)) => (database, Some(shard.to_owned())),
        None => (path.as_str(), None),
    };
    if database.is_empty() || shard.as_deref() == Some("") {
        return Err("write /database or /database/shard behind the servers".to_owned());
    }
    Ok((database.to_owned(), shard))
}

fn set(options: &mut Options, key: &str, value: String) -> Result<(), String> {
    let unknown = |what: &str| Err(format!("{key}={value}: {what}"));
    match key {
        "token" => options.token = Some(value),
        "data-center" => options.data_center = Some(value),
        "tls-ca" => (options.tls, options.tls_ca) = (true, Some(PathBuf::from(value))),
        "tls" => match value.as_str() {
            "" | "1" | "true" | "on" => options.tls = true,
            "0" | "false" | "off" => options.tls = false,
            _ => return unknown("write on or off"),
        },
        "timeout-ms" => match value.parse() {
            Ok(ms) => options.timeout = Duration::from_millis(ms),
            Err(_) => return unknown("write a number of milliseconds"),
        },
        "strategy" => match value.as_str() {
            "sticky" => options.strategy = Strategy::Sticky,
            "round-robin-connect" => options.strategy = Strategy::RoundRobinConnect,
            "round-robin-request" => options.strategy = Strategy::RoundRobinRequest,
            _ => return unknown("write sticky, round-robin-connect or round-robin-request"),
        },
        "reading" => match value.as_str() {
            "session" => options.reading = Reading::Session,
            "local" => options.reading = Reading::Local,
            "linearizable" => options.reading = Reading::Linearizable,
            _ => return unknown("write session, local or linearizable"),
        },
        _ => return Err(format!("there is no '{key}'; there are {KEYS}")),
    }
    Ok(())
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn seed(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("'{text}' is no server: write host, host:port or [v6-address]:port");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':').ok_or_else(wrong)?)
                },
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    match !host.is_empty() && host.chars().all(fits) && port != 0 {
        true => Ok((host.to_owned(), port)),
        false => Err(wrong()),
    }
}

/// Takes `%41` for what it stands for.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}': behind % stand two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
                let value = digit().zip(digit()).ok_or_else(wrong)?;
                u8::try_from(value.0 * 16 + value.1).map_err(|_| wrong())?
            }
            other => other,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| format!("'{text}' is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(url: &str) -> String {
        Address::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn a_url_names_servers_a_database_and_what_is_wanted() {
        let address = Address::parse("quorate://a,b.example:99,[::1]:7,[fe80::1]/demo").unwrap();
        let seeds = [("a", 2424), ("b.example", 99), ("::1", 7), ("fe80::1", 2424)];
        let seeds: Vec<(String, u16)> = seeds.map(|(h, p)| (h.to_owned(), p)).to_vec();
        assert_eq!(address.options, Options::new(seeds));
        assert_eq!((address.database.as_str(), address.shard), ("demo", None));

        let url = "quorate://h/d%20b/usa?token=a%2Bb&strategy=round-robin-request&timeout-ms=5\
                   &reading=linearizable&data-center=rome&tls";
        let address = Address::parse(url).unwrap();
        assert_eq!((address.database.as_str(), address.shard.as_deref()), ("d b", Some("usa")));
        let options = address.options;
        assert_eq!(options.token.as_deref(), Some("a+b"));
        assert_eq!(options.strategy, Strategy::RoundRobinRequest);
        assert_eq!(options.reading, Reading::Linearizable);
        assert_eq!((options.timeout, options.tls), (Duration::from_millis(5), true));
        assert_eq!(options.data_center.as_deref(), Some("rome"));
    }

    #[test]
    fn a_url_of_a_cluster_may_leave_the_database_out() {
        let (options, place) = Address::of_cluster("quorate://a,b:9?tls=on").unwrap();
        assert_eq!((options.servers.len(), options.tls, place), (2, true, None));
        let (_, place) = Address::of_cluster("quorate://a/demo/usa").unwrap();
        assert_eq!(place, Some(("demo".to_owned(), Some("usa".to_owned()))));
        assert!(Address::of_cluster("quorate://a/").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_named() {
        assert!(problem("http://a/demo").contains("quorate://"));
        assert!(problem("quorate://a").contains("database"));
        assert!(problem("quorate://a/").contains("/database"));
        assert!(problem("quorate:///demo").contains("'' is no server"));
        assert!(problem("quorate://a:x/demo").contains("'a:x'"));
        assert!(problem("quorate://a:0/demo").contains("'a:0'"));
        assert!(problem("quorate://a b/demo").contains("'a b'"));
        assert!(problem("quorate://a/demo?colour=red").contains("colour"));
        assert!(problem("quorate://a/demo?strategy=best").contains("sticky"));
        assert!(problem("quorate://a/demo?timeout-ms=soon").contains("milliseconds"));
        assert!(problem("quorate://a/demo?token=%4").contains("hexadecimal"));
    }
}
