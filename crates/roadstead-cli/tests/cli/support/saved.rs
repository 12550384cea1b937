//! What Docker of old saves: layers as they are, and no manifest.

use std::fs::File;
use std::path::Path;

use roadstead::testing::Image;

/// Writes an image whose layers are not compressed as such an archive.
pub(crate) fn save(image: &Image, name: &str, path: &Path) {
    let config = image.manifest.config().unwrap().digest;
    let mut files = vec![("config.json".to_owned(), image.blobs[&config].to_vec())];
    for (number, layer) in image.manifest.layers().iter().enumerate() {
        files.push((format!("{number}.tar"), image.blobs[&layer.digest].to_vec()));
    }
    let layers: Vec<&str> = files[1..].iter().map(|(name, _)| name.as_str()).collect();
    let table = serde_json::json!([{ "Config": "config.json", "RepoTags": [name], "Layers": layers }]);
    files.push(("manifest.json".to_owned(), table.to_string().into()));
    let mut archive = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.finish().unwrap();
}
