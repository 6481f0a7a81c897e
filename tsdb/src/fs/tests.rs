use super::*;

#[test]
fn replace_leaves_no_temporary_file_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.json");
    replace(&path, b"one").unwrap();
    replace(&path, b"two").unwrap();
    assert_eq!(read(&path).unwrap(), b"two");
    assert_eq!(list(dir.path()).unwrap(), ["meta.json"]);
}

#[test]
fn errors_name_the_verb_and_the_path() {
    let error = File::open(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert_eq!(error, "open /nowhere/at/all: No such file or directory (os error 2)");
    assert_eq!(read_if_exists(Path::new("/nowhere/at/all")).unwrap(), None);
}

#[test]
fn lock_excludes_a_second_owner_and_tells_of_an_unclean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let lock = Lock::acquire(&path).unwrap();
    assert!(!lock.was_present);
    assert!(matches!(Lock::acquire(&path), Err(Error::Locked { .. })));
    drop(lock);
    assert!(!exists(&path));
    write(&path, b"").unwrap();
    assert!(Lock::acquire(&path).unwrap().was_present);
}

#[test]
fn growing_map_shows_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(&dir.path().join("f")).unwrap();
    let map = GrowingMap::new(&file, 1 << 20, 0).unwrap();
    assert_eq!(map.bytes(), b"");
    file.write_all_at(b"hello", 0).unwrap();
    map.publish(5);
    assert_eq!(map.bytes(), b"hello");
    file.write_all_at(&[b'x'; 9000], 5).unwrap();
    map.publish(9005);
    assert_eq!(map.bytes()[9004], b'x');
}

#[test]
fn whole_file_map_of_an_empty_file_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    write(&path, b"").unwrap();
    assert!(Mmap::open(&path).unwrap().is_empty());
}

#[test]
fn a_full_disk_writes_a_part_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(&dir.path().join("f")).unwrap();
    fault::limit_bytes(dir.path(), 3);
    assert!(file.write_all_at(b"hello", 0).is_err());
    fault::heal(dir.path());
    assert_eq!(read(file.path()).unwrap(), b"hel");
}
