//! The control interface on a Unix socket.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use axum::Router;
use xinqiao_core::spi::Shutdown;

use crate::serve;

/// Serves `router` on a Unix socket at `path` (mode 0600) until `shutdown`, then removes it.
///
/// # Errors
/// `AddrInUse` if another process answers there, `AlreadyExists` if something other than a socket
/// is there, `InvalidInput` if the path is too long for a socket (about 100 bytes).
pub async fn serve(path: &Path, router: Router, shutdown: Shutdown) -> io::Result<()> {
    let server = axum_server::from_unix(bind(path)?)?;
    let served = serve::run(server, router, shutdown).await;
    let _ = std::fs::remove_file(path);
    served
}

/// Binds beside `path`, closes it to others, then renames: nobody can reach it while it is open to
/// all, and a stale socket is replaced in one step.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let told = |kind, what: &str| io::Error::new(kind, format!("{what}:{}", path.display()));
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(told(ErrorKind::AlreadyExists, "控制接口的位置已有别的文件"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(told(ErrorKind::AddrInUse, "已有网关在此运行"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let beside = PathBuf::from(format!("{}~", path.display()));
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => {
            told(ErrorKind::InvalidInput, "控制接口的路径过长(约100字节以内),请缩短数据目录")
        }
        _ => error,
    })?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}
