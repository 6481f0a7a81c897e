use super::table::align;

#[test]
fn columns_are_as_wide_as_their_widest_cell() {
    assert_eq!(align("a\tbb\t\nccc\td\t\n"), "a    bb  \nccc  d   \n");
    // Another run of lines has widths of its own, and what follows the last tab has none.
    assert_eq!(align("a\tb\n\nlonger\tc\n"), "a  b\n\nlonger  c\n");
    assert_eq!(align("ä\tb\t\naaa\t\t\n"), "ä    b  \naaa     \n");
    assert_eq!(align(""), "");
}
