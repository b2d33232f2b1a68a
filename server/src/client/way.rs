//! The way to a node: its address, and whether and whom to trust on it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::{self, CertificateError, crypto::ring};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::cli::Target;
use crate::exit::Failure;
use crate::http::certificates;
use crate::presence::{self, Presence};

/// How the verifier names a certificate that may sign others, where one of a node is expected.
const AUTHORITY_ITSELF: &str = "CaUsedAsEndEntity";

/// Where a node is.
pub(super) struct Way {
    /// `http://` or `https://` and the address.
    pub(super) url: String,
    /// For messages: how the user named it.
    pub(super) at: String,
    /// It was found in its data directory, or its address is this machine.
    pub(super) local: bool,
    /// It was found in its data directory.
    found: bool,
}

impl Way {
    /// To an address that was given.
    ///
    /// # Errors
    /// [`Failure::Usage`] if TLS is asked for and excluded at once.
    pub(super) fn to(address: &str, target: &Target) -> Result<Self, Failure> {
        let tls = target.tls || target.tls_ca.is_some();
        let url = address.trim_end_matches('/');
        let url = match url.split_once("://") {
            Some(("http", _)) if tls => {
                return Err(Failure::Usage(format!(
                    "--http {address} is without TLS, --tls and --tls-ca are with it: write https://"
                )));
            }
            Some(_) => url.to_owned(),
            None if tls => format!("https://{url}"),
            None => format!("http://{url}"),
        };
        let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        let local = host.is_some_and(|host| is_here(&host));
        Ok(Self { url, at: address.to_owned(), local, found: false })
    }

    /// To the node that runs on a data directory.
    ///
    /// # Errors
    /// [`Failure::NoNode`].
    pub(super) fn in_directory(data: &Path) -> Result<Self, Failure> {
        let shown = data.display();
        let present = running(data)?;
        let Some(http) = present.http else {
            return Err(Failure::NoNode(format!(
                "the node on {shown} (process {}) was started with --http off: it can only be \
                 signalled (SIGTERM leaves in good order)",
                present.pid
            )));
        };
        let scheme = if present.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", reached(http));
        Ok(Self { url, at: shown.to_string(), local: true, found: true })
    }

    /// Whom to trust.
    ///
    /// # Errors
    /// [`Failure::Usage`] if --tls-ca cannot be read.
    pub(super) fn tls(&self, target: &Target) -> Result<TlsConfig, Failure> {
        let config = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
        if let Some(file) = &target.tls_ca {
            let read = certificates(file);
            let read = read.map_err(|problem| {
                Failure::Usage(format!("--tls-ca {}: {problem}", file.display()))
            })?;
            let roots: Vec<_> =
                read.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            return Ok(config.root_certs(RootCerts::new_with_certs(&roots)).build());
        }
        // What its data directory says of a node is trusted, its address too, which is this machine's
        // own: nothing comes between, and the certificate need not name that address.
        let own = self.found && self.local;
        Ok(config.root_certs(RootCerts::PlatformVerifier).disable_verification(own).build())
    }
}

/// What the node that runs on a data directory says of itself there.
///
/// # Errors
/// [`Failure::NoNode`]: none does.
pub(crate) fn running(data: &Path) -> Result<Presence, Failure> {
    let shown = data.display();
    if !data.is_dir() {
        return Err(Failure::NoNode(format!(
            "there is no data directory {shown}: name the node's own with --data DIR, or its \
             address with --http http://HOST:PORT"
        )));
    }
    let present = Presence::read(data).map_err(|error| {
        Failure::NoNode(format!("{} cannot be read: {error}", presence::path(data).display()))
    })?;
    let Some(present) = present else {
        return Err(Failure::NoNode(format!(
            "no node is running on {shown}: start it with `quorate start --data {shown}`"
        )));
    };
    if !present.is_running() {
        return Err(Failure::NoNode(format!(
            "no node is running on {shown}: its last process, {}, ended without taking leave. \
             Start it again with `quorate start --data {shown}`",
            present.pid
        )));
    }
    Ok(present)
}

/// A node that listens everywhere is reached on the loopback address.
pub(crate) fn reached(listening: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(loopback, listening.port())
}

fn is_here(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// What is wrong with TLS on the way, if that is what is wrong.
pub(super) fn insecure(at: &str, url: &str, error: &ureq::Error) -> Option<Failure> {
    let problem = match error {
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>()?,
        ureq::Error::Rustls(error) => error,
        ureq::Error::Tls(problem) => {
            return Some(Failure::Usage(format!("TLS with {at}: {problem}")));
        }
        _ => return None,
    };
    let host = url.trim_start_matches("https://");
    let said = match problem {
        rustls::Error::InvalidMessage(_) => {
            return Some(Failure::Usage(format!(
                "the node at {at} does not speak TLS: write http://, without --tls and --tls-ca, or \
                 start the node with --tls-cert and --tls-key"
            )));
        }
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("has expired; renew it on the node's machine ({problem})")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("is not valid yet; compare the clocks ({problem})")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("is not for {host}; use a name that it is for ({problem})")
            }
            CertificateError::UnknownIssuer => {
                "is of an authority that is not trusted here; give that with --tls-ca".to_owned()
            }
            // What `openssl req -x509` makes, unless it is told otherwise.
            CertificateError::Other(other) if format!("{other:?}").contains(AUTHORITY_ITSELF) => {
                "is that of an authority, and not of a node: make one that is none, with \
                 basicConstraints=CA:FALSE"
                    .to_owned()
            }
            _ => format!("cannot be trusted: {problem}"),
        },
        _ => return Some(Failure::Refused(format!("TLS with the node at {at} failed: {problem}"))),
    };
    Some(Failure::NotAllowed(format!("nothing was sent to {at}: the node's certificate {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(tls: bool) -> Target {
        Target {
            data: "none".into(),
            http: None,
            token: None,
            token_file: None,
            user: None,
            tls,
            tls_ca: None,
        }
    }

    #[test]
    fn an_address_says_whether_it_is_tls_and_whether_it_is_here() {
        let way =
            |address: &str, tls| Way::to(address, &target(tls)).map(|way| (way.url, way.local));
        let is = |url: &str, local| Some((url.to_owned(), local));
        assert_eq!(way("127.0.0.1:1", false).ok(), is("http://127.0.0.1:1", true));
        assert_eq!(way("db1:1", true).ok(), is("https://db1:1", false));
        assert_eq!(way("https://localhost:1/", false).ok(), is("https://localhost:1", true));
        assert_eq!(way("https://[::1]:1", true).ok(), is("https://[::1]:1", true));
        assert_eq!(way("http://127.0.0.1.example.com", false).ok().map(|w| w.1), Some(false));
        assert!(matches!(way("http://db1:1", true), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_node_that_listens_everywhere_is_reached_on_the_loopback_address() {
        for (listening, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("127.0.0.2:1", "127.0.0.2:1"),
        ] {
            let listening: SocketAddr = listening.parse().unwrap();
            assert_eq!(reached(listening).to_string(), expected);
        }
    }
}
