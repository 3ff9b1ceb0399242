//! The README's way from a sample to a running feed, line by line as it is written there.

use std::path::Path;
use std::process::Command;

use crate::fault::kill::binary;

#[test]
fn a_new_agency_is_connected_as_the_readme_says() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let readme = std::fs::read_to_string(repository.join("README.md")).unwrap();
    let (_, section) = readme.split_once("## Connect a new agency\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines);
    let script: Vec<&str> = lines.map(|line| line.strip_prefix("   ").unwrap_or(line)).collect();
    assert!(script.len() > 30, "{script:#?}");

    let folder = tempfile::tempdir().unwrap();
    let (bin, site) = (folder.path().join("bin"), folder.path().join("site"));
    std::fs::create_dir(&bin).unwrap();
    std::fs::create_dir(&site).unwrap();
    std::os::unix::fs::symlink(binary(), bin.join("xinqiao")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("timeout")
        .args(["120", "bash", "-eu", "-c"])
        .arg(format!("trap 'kill ${{gateway:-}} 2>&- || :' EXIT\n{}", script.join("\n")))
        .current_dir(&site)
        .env("PATH", path)
        .env("REPO", &repository)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "已写出 mappings/agencies/wglj",
        "共15行:通过6,提示1,暂存0,退回8",
        "检查通过",
        "共 15 行,有问题的 9 行",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
