//! PostgreSQL behind TLS, for tests of certificates.
//!
//! The programs of the fetched rung are built without TLS, so TLS ends here, in front of the run's
//! server: PostgreSQL's own opening (`SSLRequest`, `S`), then a true handshake with the certificate given.
//! A connection without TLS is refused in the words of a `hostssl`-only server. It is the same on every rung.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::error::{Doing, Error};
use crate::server::shared;
use crate::url;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A server that takes TLS connections only. It ends when dropped.
#[derive(Debug)]
pub struct TlsServer {
    /// Always `localhost`.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// The superuser's address of the database `postgres`, without any TLS key.
    pub url: String,
    accepting: JoinHandle<()>,
}

/// Starts a server with this certificate chain and private key, both as PEM text.
///
/// # Errors
/// [`Error::Invalid`] if certificate and key are not usable together, [`Error::NoServer`] if there is no
/// PostgreSQL.
pub async fn tls_server(cert_pem: &str, key_pem: &str) -> Result<TlsServer, Error> {
    let acceptor = acceptor(cert_pem, key_pem)?;
    let server = shared().await?;
    let target = url::address(server.url()).to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.doing("starting the TLS server")?;
    let port = listener.local_addr().doing("starting the TLS server")?.port();
    let accepting = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move { serve(client, acceptor, &target).await });
        }
    });
    let url = url::with_address(server.url(), "localhost", port);
    Ok(TlsServer { host: "localhost".to_owned(), port, url, accepting })
}

impl TlsServer {
    /// `url` through this server.
    pub fn url_of(&self, url: &str) -> String {
        url::with_address(url, &self.host, self.port)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn acceptor(cert_pem: &str, key_pem: &str) -> Result<TlsAcceptor, Error> {
    let bad = |what: &str, why: String| Error::Invalid(format!("the {what} for the TLS server: {why}"));
    let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad("certificate", error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| bad("key", error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| bad("certificate and key", error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(mut client: TcpStream, acceptor: TlsAcceptor, target: &str) -> std::io::Result<()> {
    let mut opening = [0; 8];
    client.read_exact(&mut opening).await?;
    while opening == GSS_REQUEST {
        client.write_all(b"N").await?;
        client.read_exact(&mut opening).await?;
    }
    if opening != SSL_REQUEST {
        return refuse_plain(client).await;
    }
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn refuse_plain(mut client: TcpStream) -> std::io::Result<()> {
    let fields = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for this host, no encryption\0\0";
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    client.write_all(&[b"E", &length[..], fields].concat()).await?;
    client.shutdown().await
}
