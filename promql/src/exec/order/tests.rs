//! Orders that Go's sort leaves, and properties of any sort.

use super::*;

/// Elements, the way they are made, and a hash of the order in which `sort.Sort(sort.Reverse(..))` of Go 1.26 leaves
/// them, NaN being less than everything.
#[rustfmt::skip]
const GO: &[(u32, u32, u64)] = &[
    (5, 0, 0x3378_e3d0_c52e_dfaf),
    (5, 1, 0x3c11_60d0_ca08_6e8d),
    (5, 2, 0x9e07_2b36_75f4_efb5),
    (5, 3, 0x7159_4b24_fb55_2c85),
    (5, 4, 0x3378_e3d0_c52e_dfaf),
    (5, 5, 0xf56d_392e_1adf_e30d),
    (5, 6, 0x6006_5324_f185_2bc9),
    (5, 7, 0x7627_fcb7_d627_d93d),
    (12, 0, 0x2d7d_4819_416d_7fb9),
    (12, 1, 0x5229_eefc_32a7_d181),
    (12, 2, 0xe9f6_372c_2628_3e11),
    (12, 3, 0xdeb2_1710_a49e_d3a1),
    (12, 4, 0x2d7d_4819_416d_7fb9),
    (12, 5, 0xb80c_c556_c4eb_5adf),
    (12, 6, 0x7132_065e_20a6_33bb),
    (12, 7, 0xe843_8a34_2a27_554d),
    (13, 0, 0xb961_37ea_2d10_008f),
    (13, 1, 0xa3d7_6732_948f_ffab),
    (13, 2, 0x779c_4e42_28ca_7aaf),
    (13, 3, 0xc2c1_8061_e194_17af),
    (13, 4, 0xb961_37ea_2d10_008f),
    (13, 5, 0x710b_87a6_5c96_6271),
    (13, 6, 0x743c_4c0e_d255_d3d9),
    (13, 7, 0xcca1_5696_eaeb_5f15),
    (20, 0, 0xcc92_7f6e_e23a_0f61),
    (20, 1, 0xfde7_9d9a_117e_7e73),
    (20, 2, 0xaa78_ef3d_6ee8_4dd1),
    (20, 3, 0xde3e_9d22_b9d1_447b),
    (20, 4, 0xcc92_7f6e_e23a_0f61),
    (20, 5, 0xe3c1_01bc_470e_264f),
    (20, 6, 0x8f0d_4f0f_f4d9_2da9),
    (20, 7, 0xf1a8_5b27_2518_f06b),
    (49, 0, 0x360a_5c9d_3b1b_f95f),
    (49, 1, 0xcfe6_8b22_5513_2a5d),
    (49, 2, 0x7d6a_80f3_29c5_be85),
    (49, 3, 0x8492_2aff_7cc0_6a23),
    (49, 4, 0x360a_5c9d_3b1b_f95f),
    (49, 5, 0xca09_3bcd_423a_f46b),
    (49, 6, 0x20a0_62f5_dd5e_92e3),
    (49, 7, 0xb0bc_dbb4_17c2_f929),
    (50, 0, 0xef94_cd2b_7088_d5ea),
    (50, 1, 0xb7c4_f252_8ae8_a644),
    (50, 2, 0x4313_d5be_bba4_1238),
    (50, 3, 0x9343_451b_7a46_6e24),
    (50, 4, 0xef94_cd2b_7088_d5ea),
    (50, 5, 0x0082_6aac_7f83_33d6),
    (50, 6, 0x2a07_3911_36cb_489e),
    (50, 7, 0x9075_d9cb_89c9_5e0c),
    (51, 0, 0xa2ae_78d0_3883_5e08),
    (51, 1, 0xfad8_b85c_675e_0208),
    (51, 2, 0xad37_09f8_2b50_e6e8),
    (51, 3, 0x2fb7_3b92_7ce3_7f0a),
    (51, 4, 0xa2ae_78d0_3883_5e08),
    (51, 5, 0x158b_bee8_8992_0fde),
    (51, 6, 0x01c2_ec35_d112_5d30),
    (51, 7, 0x6ce7_50c5_197a_7d06),
    (70, 0, 0x0b9d_e17e_57b4_dd9e),
    (70, 1, 0x868b_7c2e_9842_5cda),
    (70, 2, 0x1ca7_e15c_d53b_e8a4),
    (70, 3, 0x0f02_2704_8b7d_3bc2),
    (70, 4, 0x0b9d_e17e_57b4_dd9e),
    (70, 5, 0x0b52_1db5_8782_921e),
    (70, 6, 0x3a83_5b55_af93_483e),
    (70, 7, 0x10fa_e586_ae0b_6716),
    (128, 0, 0x356c_6cc8_1375_14a5),
    (128, 1, 0xe1c4_6024_a7e5_05c1),
    (128, 2, 0x1dca_410c_c058_2b37),
    (128, 3, 0x6a5e_171a_ed19_fd75),
    (128, 4, 0x356c_6cc8_1375_14a5),
    (128, 5, 0xeff6_8058_5742_eeaf),
    (128, 6, 0x4db8_0c66_303a_6e4d),
    (128, 7, 0xd9b4_9f1d_d327_eef9),
    (200, 0, 0x43cf_a802_3695_d3bd),
    (200, 1, 0xbe13_270a_fc55_991f),
    (200, 2, 0x3f74_bba4_2a28_2353),
    (200, 3, 0x9327_cd6e_6b35_62d3),
    (200, 4, 0x43cf_a802_3695_d3bd),
    (200, 5, 0x75f6_457e_1714_8c81),
    (200, 6, 0xb803_533b_c662_bb49),
    (200, 7, 0x26c5_df78_2351_0067),
    (500, 0, 0x8e07_d716_feaf_3681),
    (500, 1, 0x6f96_1b84_2924_e7ed),
    (500, 2, 0x1a23_f161_0a00_3d21),
    (500, 3, 0xdca7_7557_40b7_cb8d),
    (500, 4, 0x8e07_d716_feaf_3681),
    (500, 5, 0x1e22_d7d4_0648_4161),
    (500, 6, 0xbe56_a73c_537e_990f),
    (500, 7, 0x4d2b_d66f_d32f_2d41),
    (1000, 0, 0x988c_c5af_d8cb_65dd),
    (1000, 1, 0x311c_6a29_0c9a_1ad1),
    (1000, 2, 0x7627_b595_ed93_1369),
    (1000, 3, 0xcbcf_07a1_5d86_f61d),
    (1000, 4, 0x988c_c5af_d8cb_65dd),
    (1000, 5, 0x500e_fd89_3d50_8483),
    (1000, 6, 0xa992_408f_4957_c545),
    (1000, 7, 0x9d8f_2849_5856_afff),
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
        _ if i.is_multiple_of(17) => (next() % u64::from(n)) as f64,
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
