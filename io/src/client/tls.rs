//! TLS to a node: whom to trust.

use std::path::Path;
use std::sync::Arc;

use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::ConnectError;

/// What makes TLS of a connection: trusts the authorities of the file, or the system's.
pub(super) fn connector(authorities: Option<&Path>) -> Result<TlsConnector, ConnectError> {
    let wrong = |problem: String| ConnectError::Tls { problem };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    let config = match authorities {
        None => builder
            .with_platform_verifier()
            .map_err(|error| wrong(format!("the system's authorities cannot be used: {error}")))?
            .with_no_client_auth(),
        Some(file) => {
            let shown = file.display();
            let unread = |error| wrong(format!("{shown} cannot be read as PEM: {error}"));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(unread)? {
                let added = roots.add(certificate.map_err(unread)?);
                added.map_err(|error| wrong(format!("{shown}: {error}")))?;
            }
            if roots.is_empty() {
                return Err(wrong(format!("{shown} holds no certificate")));
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}
