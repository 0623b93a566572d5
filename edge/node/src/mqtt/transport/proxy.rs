//! The PROXY protocol, version 2: what a load balancer says of the client before the client's own bytes.
//! Without a valid header nothing is read further: the listener is for the proxy alone.

use std::io;
use std::net::SocketAddr;

use ppp::v2::{Addresses, Command, Header};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The signature, version, family, and the length of what follows.
const FIXED_BYTES: usize = 16;

/// What may follow: addresses, and what proxies add.
const REST_BYTES_MAX: usize = 4096;

/// The client that the proxy speaks for; `None` where it speaks for itself (its health checks).
pub(super) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut bytes = vec![0; FIXED_BYTES];
    stream.read_exact(&mut bytes).await?;
    if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(malformed("no PROXY protocol header of version 2"));
    }
    let rest = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if rest > REST_BYTES_MAX {
        return Err(malformed("a PROXY protocol header that is too long"));
    }
    bytes.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(&mut bytes[FIXED_BYTES..]).await?;
    let header = Header::try_from(bytes.as_slice())
        .map_err(|error| malformed(&format!("a PROXY protocol header that is wrong: {error}")))?;
    if header.command == Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        Addresses::IPv4(ip) => Some((ip.source_address, ip.source_port).into()),
        Addresses::IPv6(ip) => Some((ip.source_address, ip.source_port).into()),
        Addresses::Unspecified | Addresses::Unix(_) => None,
    })
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use ppp::v2::{Builder, IPv4, Protocol, Version};

    use super::*;

    fn header(command: Command) -> Vec<u8> {
        let addresses = IPv4::new([192, 0, 2, 7], [192, 0, 2, 1], 4711, 1883);
        let built = Builder::with_addresses(Version::Two | command, Protocol::Stream, addresses);
        built.build().unwrap()
    }

    #[tokio::test]
    async fn the_client_is_who_the_proxy_says() {
        let bytes = [header(Command::Proxy), b"CONNECT".to_vec()].concat();
        let mut stream = bytes.as_slice();
        let client = read_header(&mut stream).await.unwrap();
        assert_eq!(client, Some("192.0.2.7:4711".parse().unwrap()));
        assert_eq!(stream, b"CONNECT", "what is the client's is left");
        let local = header(Command::Local);
        assert_eq!(read_header(&mut local.as_slice()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn all_else_is_refused() {
        let good = header(Command::Proxy);
        let mut long = good.clone();
        long[14] = 0xff;
        let mut version = good.clone();
        version[12] = 0x31;
        let connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\x00\x00".to_vec();
        for bytes in [long, version, connect, good[..20].to_vec(), Vec::new()] {
            assert!(
                read_header(&mut bytes.as_slice()).await.is_err(),
                "{bytes:?}"
            );
        }
    }
}
