//! Who this machine's edge is: a certificate that the cloud next to it has signed, made at the first
//! start and kept.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use tidegate_bridge::{CertificateError, Credentials, EdgeFiles, HubAuthority};
use tidegate_shared::id::EdgeId;

/// The id where the host has no name that can be one.
const FALLBACK: &str = "edge-1";

/// The edge's certificate in `edge_tls`, signed by the CA in `cloud_tls`. An id that was issued once
/// stays, whatever the host is called today, and also where the cloud has begun anew with another CA.
pub(super) fn ensure(
    cloud_tls: &Path,
    edge_tls: &Path,
    host: &str,
) -> anyhow::Result<(EdgeId, EdgeFiles)> {
    let files = EdgeFiles {
        certificate: edge_tls.join("edge.crt"),
        key: edge_tls.join("edge.key"),
        ca: edge_tls.join("ca.crt"),
    };
    let issued = match files.certificate.exists() {
        true => load(&files),
        false => Ok(None),
    };
    let issued = issued.map_err(|error| {
        let folder = edge_tls.display();
        anyhow!("{error}: remove {folder} for a new certificate, and start again")
    })?;
    if let Some(edge) = &issued
        && same(&files.ca, &cloud_tls.join("ca.crt"))
    {
        return Ok((edge.clone(), files));
    }
    let edge = issued.unwrap_or_else(|| edge_id(host));
    let authority = HubAuthority::open(cloud_tls)?;
    let files = authority
        .issue_edge(&edge, edge_tls)
        .context("the edge's certificate")?;
    Ok((edge, files))
}

/// The id in the certificate; `None` where the first start was cut short before all files were there.
fn load(files: &EdgeFiles) -> Result<Option<EdgeId>, CertificateError> {
    if !files.key.exists() || !files.ca.exists() {
        return Ok(None);
    }
    let credentials = Credentials::load(&files.certificate, &files.key, &files.ca)?;
    credentials.edge_id().map(Some)
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// The host's name as an edge id.
fn edge_id(host: &str) -> EdgeId {
    let name = crate::demo::topic_level(host);
    let name: String = name.chars().take(EdgeId::LENGTH_MAX).collect();
    match EdgeId::new(name) {
        Ok(edge) if edge.as_str() != "localhost" => edge,
        _ => EdgeId::new(FALLBACK).expect("it is a name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_becomes_an_edge() {
        for (host, edge) in [
            ("plant-7.example", "plant-7.example"),
            ("Büro PC", "B-ro-PC"),
            ("localhost", FALLBACK),
            ("", FALLBACK),
            ("..", FALLBACK),
        ] {
            assert_eq!(edge_id(host).as_str(), edge, "{host}");
        }
        assert_eq!(edge_id(&"x".repeat(100)).as_str().len(), 64);
    }

    #[test]
    fn an_edge_stays_who_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (cloud, edge) = (folder.path().join("cloud"), folder.path().join("edge"));
        let (first, files) = ensure(&cloud, &edge, "one").unwrap();
        let certificate = fs::read(&files.certificate).unwrap();
        let (again, files) = ensure(&cloud, &edge, "two").unwrap();
        assert_eq!((first.as_str(), &again), ("one", &first));
        assert_eq!(fs::read(&files.certificate).unwrap(), certificate);

        // A cloud that begins anew has another CA: the same edge gets another certificate.
        fs::remove_dir_all(&cloud).unwrap();
        let (anew, files) = ensure(&cloud, &edge, "three").unwrap();
        assert_eq!(anew, first);
        assert!(same(&files.ca, &cloud.join("ca.crt")));

        // A start that was cut short.
        fs::remove_file(&files.ca).unwrap();
        ensure(&cloud, &edge, "one").unwrap();
        assert!(files.ca.exists());
    }
}
