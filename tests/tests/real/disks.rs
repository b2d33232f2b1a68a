//! Disks that are full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};

/// A file system of four megabytes, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "quorate-test"])
            .arg(at)
            .status();
        assert!(mounted.is_ok_and(|s| s.success()), "this test mounts a tmpfs: run it as root");
        Self(at.to_owned())
    }

    /// Leaves no room at all.
    fn fill(&self) {
        let file = self.0.join("lost+found");
        let _ = fs::write(&file, vec![1; 8 << 20]);
        let full = fs::write(self.0.join("more"), vec![1; 64 << 10]);
        let _ = fs::remove_file(self.0.join("more"));
        assert!(full.is_err(), "the disk is full");
    }

    fn free(&self) {
        fs::remove_file(self.0.join("lost+found")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_node_with_a_full_disk_stops_says_why_and_returns_with_all_it_had() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    let disk = SmallDisk::mount(&nodes[2].data);
    nodes.iter_mut().for_each(Node::start);
    let before = lab.one_cluster(&nodes);
    disk.fill();
    // Changes go on until the third has no more room for them.
    let data = nodes[0].data.display().to_string();
    let mut changes = ["set-dynamic", "set-static"].into_iter().cycle();
    eventually("the third node gives up", Duration::from_secs(90), || {
        let change = changes.next().unwrap_or_default();
        let (code, said) = lab.run(1, &["server", change, "n2", "--data", &data]);
        assert_eq!(code, 0, "the others decide all the while: {said}");
        if nodes[2].is_running() { Err("it still runs".to_owned()) } else { Ok(()) }
    });
    assert_eq!(nodes[2].exit_code(), 7, "{}", nodes[2].log());
    let log = nodes[2].log();
    assert!(log.contains("No space left") && log.contains(&nodes[2].name), "{log}");
    // Without room it does not start either, and says the same.
    nodes[2].start();
    assert_eq!(nodes[2].exit_code(), 7, "{}", nodes[2].log());
    disk.free();
    nodes[2].start();
    let after = lab.one_cluster(&nodes);
    assert_eq!(after.server("n3").map(|s| &s.id), before.server("n3").map(|s| &s.id));
    assert!(after.version > before.version);
}
