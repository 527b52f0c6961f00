//! Listening on a configured address, with an error that says what to do.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Where Linux tells the host name of the process's own namespace.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Why an address cannot be listened on. The caller prints it and exits: the person at the keyboard has to act.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "cannot listen on {address} ({key}): the port is in use. Stop the process that has it \
         (`ss -ltnp 'sport = :{port}'` names it), or set `{key}` ({variable}) to another address"
    )]
    InUse { key: &'static str, variable: String, address: String, port: String },
    /// The port needs rights that the process does not have.
    #[error(
        "cannot listen on {address} ({key}): not permitted. Ports below 1024 need root or CAP_NET_BIND_SERVICE; \
         set `{key}` ({variable}) to a higher one"
    )]
    NotPermitted { key: &'static str, variable: String, address: String },
    /// No such address on this machine, or no `host:port` at all.
    #[error("cannot listen on {address} ({key}): {source}. Set `{key}` ({variable}) to HOST:PORT of this machine")]
    Address { key: &'static str, variable: String, address: String, source: io::Error },
}

/// Listens on `address` (`host:port`), which the configuration has under `key`.
pub async fn listen(key: &'static str, address: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let (address, variable) = (address.to_owned(), crate::config::variable(key));
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                let port = address.rsplit(':').next().unwrap_or_default().to_owned();
                BindError::InUse { key, variable, address, port }
            }
            io::ErrorKind::PermissionDenied => BindError::NotPermitted { key, variable, address },
            _ => BindError::Address { key, variable, address, source },
        }
    })
}

/// The address that others reach a listener at: the configured one, else the listener's own, with the machine's host
/// name where it listens on all interfaces. A container's host name is its id, which the others in its network resolve.
///
/// A port 0 in `advertise` stands for the port that the listener got.
pub fn advertised(advertise: &str, listener: SocketAddr) -> Result<String, AdvertiseError> {
    match advertise.rsplit_once(':') {
        Some((host, "0")) => Ok(format!("{host}:{}", listener.port())),
        Some(_) => Ok(advertise.to_owned()),
        None if !advertise.is_empty() => Err(AdvertiseError::NoPort(advertise.to_owned())),
        None if listener.ip().is_unspecified() => {
            let name = std::fs::read_to_string(HOST_NAME).map_err(AdvertiseError::HostName)?;
            Ok(format!("{}:{}", name.trim(), listener.port()))
        }
        None => Ok(listener.to_string()),
    }
}

/// Why nobody could be told where the process is reached. The caller prints it and exits.
#[derive(Debug, thiserror::Error)]
pub enum AdvertiseError {
    #[error("`advertise` (TIDEMARK_ADVERTISE) is {0}: it needs a port, HOST:PORT")]
    NoPort(String),
    #[error(
        "listening on all interfaces, and the host name is unknown ({0}): set `advertise` (TIDEMARK_ADVERTISE) to the \
         HOST:PORT that others reach it at"
    )]
    HostName(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_names_the_address_and_the_way_out() {
        let first = listen("listen", "127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = listen("listen", &address).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&address) && text.contains("TIDEMARK_LISTEN") && text.contains("in use"), "{text}");
    }

    #[tokio::test]
    async fn an_address_without_a_port_is_refused_with_the_key() {
        let error = listen("http", "localhost").await.unwrap_err();
        assert!(matches!(error, BindError::Address { key: "http", .. }), "{error:?}");
    }

    #[test]
    fn the_advertised_address_is_the_configured_or_the_listeners_own() {
        let all: SocketAddr = "0.0.0.0:9092".parse().unwrap();
        let one: SocketAddr = "127.0.0.1:41234".parse().unwrap();
        assert_eq!(advertised("broker-1:7000", all).unwrap(), "broker-1:7000");
        assert_eq!(advertised("", one).unwrap(), "127.0.0.1:41234");
        assert_eq!(advertised("localhost:0", one).unwrap(), "localhost:41234");
        assert!(advertised("broker-1", all).unwrap_err().to_string().contains("TIDEMARK_ADVERTISE"));
        let name = advertised("", all).unwrap();
        assert!(name.ends_with(":9092") && name.len() > ":9092".len() && !name.starts_with("0.0.0.0"), "{name}");
    }
}
