//! TLS on the HTTP port: the certificate and its key, read anew when their files change.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use tracing::{info, warn};

use crate::exit::Failure;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Larger files are no certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The certificate that is shown, and where it comes from.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<CertifiedKey>>,
}

#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// By what a change of a file is noticed.
type Stamp = Option<(u64, i64, i64, u64)>;

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`Failure::Usage`] naming the file and what is wrong with it.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, Failure> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let provider = Arc::new(ring::default_provider());
        let shown = files.read(&provider).map_err(Failure::Usage)?;
        if let Ok(meta) = fs::metadata(key)
            && meta.permissions().mode() & 0o077 != 0
        {
            warn!(file = %key.display(), "others on this machine can read the TLS key: chmod 600 ends that");
        }
        Ok(Arc::new(Self { files, provider, shown: RwLock::new(Arc::new(shown)) }))
    }

    /// What makes TLS of a connection.
    ///
    /// # Errors
    /// [`Failure::Refused`] if the library does not take its own defaults.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, Failure> {
        let config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Refused(format!("TLS does not start: {error}")))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again whenever they change, or SIGHUP comes. If they are wrong, what was shown
    /// before goes on being shown.
    ///
    /// # Errors
    /// [`Failure::Refused`] if the system lets no signal be caught.
    pub(crate) fn watch(self: &Arc<Self>) -> Result<(), Failure> {
        let mut hangup = signal(SignalKind::hangup())
            .map_err(|error| Failure::Refused(format!("signals cannot be caught: {error}")))?;
        let tls = Arc::clone(self);
        tokio::spawn(async move {
            let mut seen = tls.stamps();
            loop {
                let asked = tokio::select! {
                    () = tokio::time::sleep(LOOK) => false,
                    _ = hangup.recv() => true,
                };
                // A file system may take its time; the node's thread has none.
                let tls = Arc::clone(&tls);
                let looked = tokio::task::spawn_blocking(move || tls.look(seen, asked));
                seen = looked.await.unwrap_or(seen);
            }
        });
        Ok(())
    }

    /// Reads the files if they are not as `seen`, or if it is `asked`; as they are now.
    ///
    /// A renewal writes two files, one after the other: the pair is whole when both have changed, and
    /// then it is looked at again.
    fn look(&self, seen: [Stamp; 2], asked: bool) -> [Stamp; 2] {
        let now = self.stamps();
        if asked || now != seen {
            self.reload();
        }
        now
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.files.certificate, &self.files.key].map(|file| {
            let meta = fs::metadata(file).ok()?;
            Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
        })
    }

    fn reload(&self) {
        let certificate = self.files.certificate.display();
        match self.files.read(&self.provider) {
            Ok(read) => {
                let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
                if shown.cert != read.cert {
                    info!(%certificate, "the certificate was renewed: new connections get this one");
                }
                *shown = Arc::new(read);
            }
            Err(problem) => {
                warn!(
                    "{problem}. The certificate of before stays in use until the files are right"
                );
            }
        }
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Files {
    /// What is wrong is told with the flag and the file.
    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let (flag, file) = ("--tls-cert", self.certificate.as_path());
        let chain = certificates(file).map_err(|problem| named(flag, file, &problem))?;
        let (key_flag, key_file) = ("--tls-key", self.key.as_path());
        let key = key(key_file).map_err(|problem| named(key_flag, key_file, &problem))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let other = format!("it is not the key of the certificate in {}", file.display());
                named(key_flag, key_file, &other)
            }
            rustls::Error::InvalidCertificate(problem) => {
                named(flag, file, &format!("its first certificate cannot be read: {problem}"))
            }
            other => named(key_flag, key_file, &format!("the key cannot be used: {other}")),
        })
    }
}

fn named(flag: &str, file: &Path, problem: &str) -> String {
    format!("{flag} {}: {problem}", file.display())
}

/// The certificates of a PEM file, in their order.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let content = content(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err("there is no certificate in it: give a PEM file, with -----BEGIN CERTIFICATE-----"
                .to_owned())
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("it is not a PEM file: {error}")),
    }
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let content = zeroize::Zeroizing::new(content(file)?);
    PrivateKeyDer::from_pem_slice(&content).map_err(|error| match error {
        pem::Error::NoItemsFound => "there is no private key in it that can be used: give a PEM \
             file, with -----BEGIN PRIVATE KEY-----, that is not encrypted"
            .to_owned(),
        error => format!("it is not a PEM file: {error}"),
    })
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        let meta = fs::metadata(file)?;
        if meta.len() > FILE_BYTES_MAX {
            let problem = format!("it has {} bytes: certificates and keys are small", meta.len());
            return Err(io::Error::other(problem));
        }
        fs::read(file)
    };
    read().map_err(|error| error.to_string())
}
