//! A front of a server that speaks TLS, with a certificate of an authority of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What `openssl req` makes an authority of.
const AUTHORITY: &str = "-subj /CN=authority -keyout authority.key -out authority.pem";
/// What it makes a front's own certificate of, for `localhost`, which that authority signs.
const OWN: &str = "-subj /CN=front -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
    -CA authority.pem -CAkey authority.key -keyout own.key -out own.pem";

/// A front that takes connections for as long as it lives.
#[derive(Debug)]
pub struct Front {
    /// Such as `https://localhost:4711`.
    pub url: String,
    /// The authority's certificate, as PEM.
    pub authority: String,
    accepting: JoinHandle<()>,
}

impl Front {
    /// Starts a front of the server at `url`, such as `http://127.0.0.1:4711`.
    ///
    /// # Errors
    /// If `openssl` is not installed, is older than version 3 or makes no certificate, or no port is free.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let behind = url.strip_prefix("http://").context("it is not http")?.to_owned();
        let files = tempfile::tempdir()?;
        for certificate in [AUTHORITY, OWN] {
            certify(files.path(), certificate)?;
        }
        let authority = std::fs::read_to_string(files.path().join("authority.pem"))?;
        let own = CertificateDer::from_pem_file(files.path().join("own.pem"))?;
        let key = PrivateKeyDer::from_pem_file(files.path().join("own.key"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}", listener.local_addr()?.port());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    // Whoever does not believe the certificate hangs up.
                    let Ok(mut encrypted) = acceptor.accept(stream).await else { return };
                    let Ok(mut plain) = TcpStream::connect(behind).await else { return };
                    let _ = copy_bidirectional(&mut encrypted, &mut plain).await;
                });
            }
        });
        Ok(Self { url, authority, accepting })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn certify(place: &Path, certificate: &str) -> anyhow::Result<()> {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args(certificate.split_whitespace())
        .current_dir(place)
        .output()
        .context("openssl is not installed: apt-get install openssl")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
