use super::*;

/// Elements, the way they are made, and a hash of the order in which `sort.Sort(sort.Reverse(..))` of Go 1.26 leaves
/// them, NaN being less than everything.
#[rustfmt::skip]
const GO: &[(u32, u32, u64)] = &[
    (5, 0, 0x3378e3d0c52edfaf),
    (5, 1, 0x3c1160d0ca086e8d),
    (5, 2, 0x9e072b3675f4efb5),
    (5, 3, 0x71594b24fb552c85),
    (5, 4, 0x3378e3d0c52edfaf),
    (5, 5, 0xf56d392e1adfe30d),
    (5, 6, 0x60065324f1852bc9),
    (5, 7, 0x7627fcb7d627d93d),
    (12, 0, 0x2d7d4819416d7fb9),
    (12, 1, 0x5229eefc32a7d181),
    (12, 2, 0xe9f6372c26283e11),
    (12, 3, 0xdeb21710a49ed3a1),
    (12, 4, 0x2d7d4819416d7fb9),
    (12, 5, 0xb80cc556c4eb5adf),
    (12, 6, 0x7132065e20a633bb),
    (12, 7, 0xe8438a342a27554d),
    (13, 0, 0xb96137ea2d10008f),
    (13, 1, 0xa3d76732948fffab),
    (13, 2, 0x779c4e4228ca7aaf),
    (13, 3, 0xc2c18061e19417af),
    (13, 4, 0xb96137ea2d10008f),
    (13, 5, 0x710b87a65c966271),
    (13, 6, 0x743c4c0ed255d3d9),
    (13, 7, 0xcca15696eaeb5f15),
    (20, 0, 0xcc927f6ee23a0f61),
    (20, 1, 0xfde79d9a117e7e73),
    (20, 2, 0xaa78ef3d6ee84dd1),
    (20, 3, 0xde3e9d22b9d1447b),
    (20, 4, 0xcc927f6ee23a0f61),
    (20, 5, 0xe3c101bc470e264f),
    (20, 6, 0x8f0d4f0ff4d92da9),
    (20, 7, 0xf1a85b272518f06b),
    (49, 0, 0x360a5c9d3b1bf95f),
    (49, 1, 0xcfe68b2255132a5d),
    (49, 2, 0x7d6a80f329c5be85),
    (49, 3, 0x84922aff7cc06a23),
    (49, 4, 0x360a5c9d3b1bf95f),
    (49, 5, 0xca093bcd423af46b),
    (49, 6, 0x20a062f5dd5e92e3),
    (49, 7, 0xb0bcdbb417c2f929),
    (50, 0, 0xef94cd2b7088d5ea),
    (50, 1, 0xb7c4f2528ae8a644),
    (50, 2, 0x4313d5bebba41238),
    (50, 3, 0x9343451b7a466e24),
    (50, 4, 0xef94cd2b7088d5ea),
    (50, 5, 0x00826aac7f8333d6),
    (50, 6, 0x2a07391136cb489e),
    (50, 7, 0x9075d9cb89c95e0c),
    (51, 0, 0xa2ae78d038835e08),
    (51, 1, 0xfad8b85c675e0208),
    (51, 2, 0xad3709f82b50e6e8),
    (51, 3, 0x2fb73b927ce37f0a),
    (51, 4, 0xa2ae78d038835e08),
    (51, 5, 0x158bbee889920fde),
    (51, 6, 0x01c2ec35d1125d30),
    (51, 7, 0x6ce750c5197a7d06),
    (70, 0, 0x0b9de17e57b4dd9e),
    (70, 1, 0x868b7c2e98425cda),
    (70, 2, 0x1ca7e15cd53be8a4),
    (70, 3, 0x0f0227048b7d3bc2),
    (70, 4, 0x0b9de17e57b4dd9e),
    (70, 5, 0x0b521db58782921e),
    (70, 6, 0x3a835b55af93483e),
    (70, 7, 0x10fae586ae0b6716),
    (128, 0, 0x356c6cc8137514a5),
    (128, 1, 0xe1c46024a7e505c1),
    (128, 2, 0x1dca410cc0582b37),
    (128, 3, 0x6a5e171aed19fd75),
    (128, 4, 0x356c6cc8137514a5),
    (128, 5, 0xeff680585742eeaf),
    (128, 6, 0x4db80c66303a6e4d),
    (128, 7, 0xd9b49f1dd327eef9),
    (200, 0, 0x43cfa8023695d3bd),
    (200, 1, 0xbe13270afc55991f),
    (200, 2, 0x3f74bba42a282353),
    (200, 3, 0x9327cd6e6b3562d3),
    (200, 4, 0x43cfa8023695d3bd),
    (200, 5, 0x75f6457e17148c81),
    (200, 6, 0xb803533bc662bb49),
    (200, 7, 0x26c5df7823510067),
    (500, 0, 0x8e07d716feaf3681),
    (500, 1, 0x6f961b842924e7ed),
    (500, 2, 0x1a23f1610a003d21),
    (500, 3, 0xdca7755740b7cb8d),
    (500, 4, 0x8e07d716feaf3681),
    (500, 5, 0x1e22d7d406484161),
    (500, 6, 0xbe56a73c537e990f),
    (500, 7, 0x4d2bd66fd32f2d41),
    (1000, 0, 0x988cc5afd8cb65dd),
    (1000, 1, 0x311c6a290c9a1ad1),
    (1000, 2, 0x7627b595ed931369),
    (1000, 3, 0xcbcf07a15d86f61d),
    (1000, 4, 0x988cc5afd8cb65dd),
    (1000, 5, 0x500efd893d508483),
    (1000, 6, 0xa992408f4957c545),
    (1000, 7, 0x9d8f28495856afff),
];

fn made(n: u32, kind: u32) -> Vec<(f64, u32)> {
    let mut state = u64::from(n) * 8 + u64::from(kind) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut value = |i: u32| match kind {
        0 => 1.0,
        1 => (next() % 3) as f64,
        2 => (next() % 10) as f64,
        3 => f64::from(i / 3),
        4 => f64::from((n - i) / 3),
        5 => (next() % u64::from(n)) as f64,
        6 if next() % 4 == 0 => f64::NAN,
        6 => (next() % 5) as f64,
        _ if i % 17 == 0 => (next() % u64::from(n)) as f64,
        _ => f64::from(i / 2),
    };
    (0..n).map(|i| (value(i), i)).collect()
}

#[test]
fn equal_elements_end_up_where_go_puts_them() {
    for &(n, kind, expected) in GO {
        let mut all = made(n, kind);
        sort(&mut all, &|a: (f64, u32), b: (f64, u32)| b.0.is_nan() || b.0 < a.0);
        let hash = all.iter().fold(14_695_981_039_346_656_037_u64, |hash, (_, i)| {
            (hash ^ u64::from(*i)).wrapping_mul(1_099_511_628_211)
        });
        assert_eq!(hash, expected, "{n} elements of kind {kind}: {all:?}");
    }
}

#[test]
fn everything_is_sorted() {
    for n in 0..300 {
        for kind in [0, 1, 2, 3, 4, 5, 7] {
            let mut all: Vec<f64> = made(n.max(1), kind).into_iter().map(|(v, _)| v).collect();
            sort(&mut all, &|a, b| a < b);
            assert!(all.is_sorted(), "{n} elements of kind {kind}: {all:?}");
        }
    }
}
