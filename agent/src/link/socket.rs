//! A connection to the gateway: plain or TLS, as its address says. The dial and plain requests both begin with one.

use std::sync::Arc;

use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Bytes to and from the gateway.
pub type Connection = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Connects to the gateway at this address; over TLS the gateway is verified as `tls` says.
pub async fn connect(gateway: &Uri, tls: &Arc<ClientConfig>) -> std::io::Result<Connection> {
    let is_secret = gateway.scheme_str() == Some("https");
    let name = gateway.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = gateway.port_u16().unwrap_or(if is_secret { 443 } else { 80 });
    let stream = TcpStream::connect((name, port)).await?;
    stream.set_nodelay(true)?;
    if !is_secret {
        return Ok(Either::Left(stream));
    }
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
    Ok(Either::Right(Box::new(stream)))
}
