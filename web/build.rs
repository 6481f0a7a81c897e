//! Turns `ui/dist`, or the fallback page where that is missing, into the table of assets that `ui.rs` includes. What lies in
//! `ui/public` is in it either way.

use std::error::Error;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=ui/dist");
    println!("cargo:rerun-if-changed=ui/public");
    println!("cargo:rerun-if-changed=ui/fallback.html");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("ui");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let dist = root.join("dist");
    let mut files = Vec::new();
    if dist.join("index.html").exists() {
        collect(&dist, &dist, &mut files)?;
    } else {
        files.push(("index.html".to_owned(), root.join("fallback.html")));
    }
    let (public, mut always) = (root.join("public"), Vec::new());
    collect(&public, &public, &mut always)?;
    always.retain(|(path, _)| files.iter().all(|(known, _)| known != path));
    files.append(&mut always);
    files.sort();
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for (i, (path, file)) in files.iter().enumerate() {
        let raw = fs::read(file)?;
        let gzip = out.join(format!("asset-{i}.gz"));
        let mut encoder =
            flate2::write::GzEncoder::new(fs::File::create(&gzip)?, flate2::Compression::best());
        encoder.write_all(&raw)?;
        encoder.finish()?;
        let (file, gzip) =
            (file.to_str().ok_or("a path is not UTF-8")?, gzip.to_str().ok_or("a path is not UTF-8")?);
        let mut hasher = DefaultHasher::new();
        raw.hash(&mut hasher);
        writeln!(
            table,
            "    Asset {{ path: {path:?}, content_type: {:?}, etag: \"\\\"{:016x}\\\"\", raw: include_bytes!({file:?}), gzip: include_bytes!({gzip:?}) }},",
            content_type(path),
            hasher.finish(),
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            let name = path.strip_prefix(root)?.to_str().ok_or("an asset's name is not UTF-8")?.to_owned();
            files.push((name, path));
        }
    }
    Ok(())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "map" => "application/json",
        _ => "application/octet-stream",
    }
}
