//! A Unix socket to listen on: whose it is, who may connect to it, and that it goes with its listener.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::limits::LISTEN_BACKLOG;

/// Who may connect: its owner and group.
const MODE: u32 = 0o660;

/// The socket's file, gone with its listener.
#[derive(Debug)]
pub(super) struct SocketFile(pub PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A socket that a killed node has left is taken over; one that somebody may be listening on is not.
pub(super) async fn listen(path: &Path) -> anyhow::Result<(UnixListener, SocketFile)> {
    let shown = path.display();
    match UnixStream::connect(path).await {
        Ok(_) => bail!("somebody listens on {shown}: stop that, or change mqtt.listeners"),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {}
            _ => bail!(
                "it cannot be told whether somebody listens on {shown} ({error}): stop that and remove the file, or change mqtt.listeners"
            ),
        },
    }
    let is_socket = |metadata: Metadata| metadata.file_type().is_socket();
    if fs::symlink_metadata(path).is_ok_and(is_socket) {
        fs::remove_file(path).with_context(|| format!("{shown} cannot be removed"))?;
    }
    let failed = || format!("cannot listen on {shown} (mqtt.listeners)");
    let socket = UnixSocket::new_stream().with_context(failed)?;
    socket.bind(path).with_context(failed)?;
    let file = SocketFile(path.to_owned());
    // Before it listens: until then nobody can connect, whatever the mode that it was made with.
    fs::set_permissions(path, Permissions::from_mode(MODE))
        .with_context(|| format!("the mode of {shown} cannot be set"))?;
    let listener = socket.listen(LISTEN_BACKLOG).with_context(failed)?;
    Ok((listener, file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net;

    use super::*;

    #[tokio::test]
    async fn what_a_killed_node_has_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(net::UnixListener::bind(&path).unwrap());
        let (listener, file) = listen(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        UnixStream::connect(&path).await.unwrap();
        let refused = listen(&path).await.unwrap_err().to_string();
        assert!(refused.contains("somebody listens"), "{refused}");
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_may_be_somebodys_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        // Somebody reads from it, and yet nobody can connect to it as we do.
        let datagrams = net::UnixDatagram::bind(&path).unwrap();
        let refused = listen(&path).await.unwrap_err().to_string();
        assert!(refused.contains("cannot be told"), "{refused}");
        let sender = net::UnixDatagram::unbound().unwrap();
        sender.send_to(b"still there", &path).unwrap();
        drop(datagrams);
        let file = folder.path().join("notes");
        fs::write(&file, "kept").unwrap();
        assert!(listen(&file).await.is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }
}
