//! Whether a port on loopback speaks HTTP without TLS.
//!
//! The honest way is a TLS handshake that fails, and that way stays open for whatever is not clear. But the first handshake
//! of a process gathers entropy and reads whom the system trusts, which takes twenty times as long as all else that an
//! unchanged image costs. So a fixed greeting is sent first: a server without TLS answers it with a line of HTTP that says
//! how bad a request it is, and nothing else looks like that.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A ClientHello (RFC 5246, section 7.4.1.2) that offers one cipher suite, and whose random bytes are line feeds: a server
/// that reads lines finds the end of one.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03\
\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\
\x00\x00\x02\xc0\x2f\x01\x00";

/// How long an answer may take that nobody needs.
const LIMIT: Duration = Duration::from_secs(1);

/// Whether the greeting is answered in HTTP. Anything else, an error too, is a no.
pub(crate) async fn answers_in_http(host: &str, port: u16) -> bool {
    let probe = async {
        let mut connection = TcpStream::connect((host, port)).await?;
        connection.write_all(CLIENT_HELLO).await?;
        let mut answer = [0; 5];
        connection.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(&answer == b"HTTP/")
    };
    matches!(tokio::time::timeout(LIMIT, probe).await, Ok(Ok(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_is_well_formed() {
        assert_eq!(CLIENT_HELLO.len(), 5 + 0x2d, "the record's length");
        assert_eq!(CLIENT_HELLO.len(), 9 + 0x29, "the message's length");
    }
}
