//! What the numeric instructions compute, on raw 64-bit slots.
//!
//! An i32 or f32 fills the low half of its slot; the high half is zero. Numbers are WebAssembly's opcode bytes, saturating
//! conversions `0xC5 + n` for `0xFC n`. Every NaN that arithmetic gives is the canonical one, so that slots, and with them
//! state hashes, are the same on every processor; `abs`, `neg` and `copysign` move bits.
//!
//! The tables are one macro that hands its rows to another: the interpreter makes the arms of its `match` from them.

/// Bits of the canonical NaN of 32 bits.
const NAN_32: u64 = 0x7fc0_0000;

/// Bits of the canonical NaN of 64 bits.
const NAN_64: u64 = 0x7ff8_0000_0000_0000;

#[inline(always)]
pub(super) fn i32(slot: u64) -> i32 {
    slot as i32
}

#[inline(always)]
pub(super) fn u32(slot: u64) -> u32 {
    slot as u32
}

#[inline(always)]
pub(super) fn i64(slot: u64) -> i64 {
    slot as i64
}

#[inline(always)]
pub(super) fn f32(slot: u64) -> f32 {
    f32::from_bits(slot as u32)
}

#[inline(always)]
pub(super) fn f64(slot: u64) -> f64 {
    f64::from_bits(slot)
}

/// A slot from an i32, its high half zero.
#[inline(always)]
pub(super) fn of_i32(value: i32) -> u64 {
    u64::from(value as u32)
}

/// A slot from the result of f32 arithmetic.
#[inline(always)]
pub(super) fn of_f32(value: f32) -> u64 {
    if value.is_nan() { NAN_32 } else { u64::from(value.to_bits()) }
}

/// A slot from the result of f64 arithmetic.
#[inline(always)]
pub(super) fn of_f64(value: f64) -> u64 {
    if value.is_nan() { NAN_64 } else { value.to_bits() }
}

/// `min` and `max` of WebAssembly: a NaN operand wins, and -0 is below +0. Rust's own leave both open.
macro_rules! extremum {
    ($name:ident, $float:ty, $less:tt, $zeros:tt) => {
        #[inline(always)]
        pub(super) fn $name(a: $float, b: $float) -> $float {
            if a $less b {
                a
            } else if b $less a {
                b
            } else if a == b {
                // Equal numbers have equal bits, unless they are zeros.
                <$float>::from_bits(a.to_bits() $zeros b.to_bits())
            } else {
                <$float>::NAN
            }
        }
    };
}
extremum!(min_32, f32, <, |);
extremum!(max_32, f32, >, &);
extremum!(min_64, f64, <, |);
extremum!(max_64, f64, >, &);

/// Sign of the second operand on the bits of the first.
#[inline(always)]
pub(super) fn copysign(a: u64, b: u64, sign: u64) -> u64 {
    (a & !sign) | (b & sign)
}

/// The integer part of `$value` if it is an integer of the type, which a NaN is not. `$low` is the highest float whose
/// integer part is too low, `$high` the lowest one whose is too high.
macro_rules! truncate {
    ($value:expr, $low:expr, $high:literal, $int:ty) => {{
        let value = $value;
        (value > $low && value < $high).then(|| value as $int)
    }};
}
pub(super) use truncate;

/// Hands `$rows!` five tables: comparisons, operations on two operands and on one (both give `None` where WebAssembly
/// traps), loads (with their number of bytes), stores. Reinterpretations (0xBC to 0xBF) and `i64.extend_i32_u` (0xAD) leave
/// a slot as it is, so that flattening makes no instruction of them.
macro_rules! with_tables {
    ($rows:ident) => {
        $rows! {
            comparisons {
                0x46 |a, b| u32(a) == u32(b);
                0x47 |a, b| u32(a) != u32(b);
                0x48 |a, b| i32(a) < i32(b);
                0x49 |a, b| u32(a) < u32(b);
                0x4A |a, b| i32(a) > i32(b);
                0x4B |a, b| u32(a) > u32(b);
                0x4C |a, b| i32(a) <= i32(b);
                0x4D |a, b| u32(a) <= u32(b);
                0x4E |a, b| i32(a) >= i32(b);
                0x4F |a, b| u32(a) >= u32(b);
                0x51 |a, b| a == b;
                0x52 |a, b| a != b;
                0x53 |a, b| i64(a) < i64(b);
                0x54 |a, b| a < b;
                0x55 |a, b| i64(a) > i64(b);
                0x56 |a, b| a > b;
                0x57 |a, b| i64(a) <= i64(b);
                0x58 |a, b| a <= b;
                0x59 |a, b| i64(a) >= i64(b);
                0x5A |a, b| a >= b;
                0x5B |a, b| f32(a) == f32(b);
                0x5C |a, b| f32(a) != f32(b);
                0x5D |a, b| f32(a) < f32(b);
                0x5E |a, b| f32(a) > f32(b);
                0x5F |a, b| f32(a) <= f32(b);
                0x60 |a, b| f32(a) >= f32(b);
                0x61 |a, b| f64(a) == f64(b);
                0x62 |a, b| f64(a) != f64(b);
                0x63 |a, b| f64(a) < f64(b);
                0x64 |a, b| f64(a) > f64(b);
                0x65 |a, b| f64(a) <= f64(b);
                0x66 |a, b| f64(a) >= f64(b);
            }
            binary {
                0x6A |a, b| Some(of_i32(i32(a).wrapping_add(i32(b))));
                0x6B |a, b| Some(of_i32(i32(a).wrapping_sub(i32(b))));
                0x6C |a, b| Some(of_i32(i32(a).wrapping_mul(i32(b))));
                0x6D |a, b| i32(a).checked_div(i32(b)).map(of_i32);
                0x6E |a, b| u32(a).checked_div(u32(b)).map(u64::from);
                0x6F |a, b| if i32(b) == 0 { None } else { Some(of_i32(i32(a).wrapping_rem(i32(b)))) };
                0x70 |a, b| u32(a).checked_rem(u32(b)).map(u64::from);
                0x71 |a, b| Some(a & b);
                0x72 |a, b| Some(a | b);
                0x73 |a, b| Some(a ^ b);
                0x74 |a, b| Some(of_i32(i32(a).wrapping_shl(u32(b))));
                0x75 |a, b| Some(of_i32(i32(a).wrapping_shr(u32(b))));
                0x76 |a, b| Some(u64::from(u32(a).wrapping_shr(u32(b))));
                0x77 |a, b| Some(u64::from(u32(a).rotate_left(u32(b) & 31)));
                0x78 |a, b| Some(u64::from(u32(a).rotate_right(u32(b) & 31)));
                0x7C |a, b| Some(a.wrapping_add(b));
                0x7D |a, b| Some(a.wrapping_sub(b));
                0x7E |a, b| Some(a.wrapping_mul(b));
                0x7F |a, b| i64(a).checked_div(i64(b)).map(i64::cast_unsigned);
                0x80 |a, b| a.checked_div(b);
                0x81 |a, b| if b == 0 { None } else { Some(i64(a).wrapping_rem(i64(b)).cast_unsigned()) };
                0x82 |a, b| a.checked_rem(b);
                0x83 |a, b| Some(a & b);
                0x84 |a, b| Some(a | b);
                0x85 |a, b| Some(a ^ b);
                0x86 |a, b| Some(a.wrapping_shl(u32(b)));
                0x87 |a, b| Some(i64(a).wrapping_shr(u32(b)).cast_unsigned());
                0x88 |a, b| Some(a.wrapping_shr(u32(b)));
                0x89 |a, b| Some(a.rotate_left(u32(b) & 63));
                0x8A |a, b| Some(a.rotate_right(u32(b) & 63));
                0x92 |a, b| Some(of_f32(f32(a) + f32(b)));
                0x93 |a, b| Some(of_f32(f32(a) - f32(b)));
                0x94 |a, b| Some(of_f32(f32(a) * f32(b)));
                0x95 |a, b| Some(of_f32(f32(a) / f32(b)));
                0x96 |a, b| Some(of_f32(min_32(f32(a), f32(b))));
                0x97 |a, b| Some(of_f32(max_32(f32(a), f32(b))));
                0x98 |a, b| Some(copysign(a, b, 1 << 31));
                0xA0 |a, b| Some(of_f64(f64(a) + f64(b)));
                0xA1 |a, b| Some(of_f64(f64(a) - f64(b)));
                0xA2 |a, b| Some(of_f64(f64(a) * f64(b)));
                0xA3 |a, b| Some(of_f64(f64(a) / f64(b)));
                0xA4 |a, b| Some(of_f64(min_64(f64(a), f64(b))));
                0xA5 |a, b| Some(of_f64(max_64(f64(a), f64(b))));
                0xA6 |a, b| Some(copysign(a, b, 1 << 63));
            }
            unary {
                0x45 |a| Some(u64::from(u32(a) == 0));
                0x50 |a| Some(u64::from(a == 0));
                0x67 |a| Some(u64::from(u32(a).leading_zeros()));
                0x68 |a| Some(u64::from(u32(a).trailing_zeros()));
                0x69 |a| Some(u64::from(u32(a).count_ones()));
                0x79 |a| Some(u64::from(a.leading_zeros()));
                0x7A |a| Some(u64::from(a.trailing_zeros()));
                0x7B |a| Some(u64::from(a.count_ones()));
                0x8B |a| Some(a & !(1 << 31));
                0x8C |a| Some(a ^ (1 << 31));
                0x8D |a| Some(of_f32(f32(a).ceil()));
                0x8E |a| Some(of_f32(f32(a).floor()));
                0x8F |a| Some(of_f32(f32(a).trunc()));
                0x90 |a| Some(of_f32(f32(a).round_ties_even()));
                0x91 |a| Some(of_f32(f32(a).sqrt()));
                0x99 |a| Some(a & !(1 << 63));
                0x9A |a| Some(a ^ (1 << 63));
                0x9B |a| Some(of_f64(f64(a).ceil()));
                0x9C |a| Some(of_f64(f64(a).floor()));
                0x9D |a| Some(of_f64(f64(a).trunc()));
                0x9E |a| Some(of_f64(f64(a).round_ties_even()));
                0x9F |a| Some(of_f64(f64(a).sqrt()));
                0xA7 |a| Some(a & 0xffff_ffff);
                0xA8 |a| truncate!(f32(a), (-2147483648.0_f32).next_down(), 2147483648.0, i32).map(of_i32);
                0xA9 |a| truncate!(f32(a), -1.0, 4294967296.0, u32).map(u64::from);
                0xAA |a| truncate!(f64(a), -2147483649.0, 2147483648.0, i32).map(of_i32);
                0xAB |a| truncate!(f64(a), -1.0, 4294967296.0, u32).map(u64::from);
                0xAC |a| Some(i64::from(i32(a)).cast_unsigned());
                0xAE |a| truncate!(f32(a), (-9223372036854775808.0_f32).next_down(), 9223372036854775808.0, i64).map(i64::cast_unsigned);
                0xAF |a| truncate!(f32(a), -1.0, 18446744073709551616.0, u64);
                0xB0 |a| truncate!(f64(a), (-9223372036854775808.0_f64).next_down(), 9223372036854775808.0, i64).map(i64::cast_unsigned);
                0xB1 |a| truncate!(f64(a), -1.0, 18446744073709551616.0, u64);
                0xB2 |a| Some(of_f32(i32(a) as f32));
                0xB3 |a| Some(of_f32(u32(a) as f32));
                0xB4 |a| Some(of_f32(i64(a) as f32));
                0xB5 |a| Some(of_f32(a as f32));
                0xB6 |a| Some(of_f32(f64(a) as f32));
                0xB7 |a| Some(of_f64(f64::from(i32(a))));
                0xB8 |a| Some(of_f64(f64::from(u32(a))));
                0xB9 |a| Some(of_f64(i64(a) as f64));
                0xBA |a| Some(of_f64(a as f64));
                0xBB |a| Some(of_f64(f64::from(f32(a))));
                0xC0 |a| Some(of_i32(i32::from(a as i8)));
                0xC1 |a| Some(of_i32(i32::from(a as i16)));
                0xC2 |a| Some(i64::from(a as i8).cast_unsigned());
                0xC3 |a| Some(i64::from(a as i16).cast_unsigned());
                0xC4 |a| Some(i64::from(a as i32).cast_unsigned());
                0xC5 |a| Some(of_i32(f32(a) as i32));
                0xC6 |a| Some(u64::from(f32(a) as u32));
                0xC7 |a| Some(of_i32(f64(a) as i32));
                0xC8 |a| Some(u64::from(f64(a) as u32));
                0xC9 |a| Some((f32(a) as i64).cast_unsigned());
                0xCA |a| Some(f32(a) as u64);
                0xCB |a| Some((f64(a) as i64).cast_unsigned());
                0xCC |a| Some(f64(a) as u64);
            }
            loads {
                0x28 4 |bytes| u64::from(u32::from_le_bytes(bytes));
                0x29 8 |bytes| u64::from_le_bytes(bytes);
                0x2A 4 |bytes| u64::from(u32::from_le_bytes(bytes));
                0x2B 8 |bytes| u64::from_le_bytes(bytes);
                0x2C 1 |bytes| of_i32(i32::from(i8::from_le_bytes(bytes)));
                0x2D 1 |bytes| u64::from(u8::from_le_bytes(bytes));
                0x2E 2 |bytes| of_i32(i32::from(i16::from_le_bytes(bytes)));
                0x2F 2 |bytes| u64::from(u16::from_le_bytes(bytes));
                0x30 1 |bytes| i64::from(i8::from_le_bytes(bytes)).cast_unsigned();
                0x31 1 |bytes| u64::from(u8::from_le_bytes(bytes));
                0x32 2 |bytes| i64::from(i16::from_le_bytes(bytes)).cast_unsigned();
                0x33 2 |bytes| u64::from(u16::from_le_bytes(bytes));
                0x34 4 |bytes| i64::from(i32::from_le_bytes(bytes)).cast_unsigned();
                0x35 4 |bytes| u64::from(u32::from_le_bytes(bytes));
            }
            stores {
                0x36 |slot| (slot as u32).to_le_bytes();
                0x37 |slot| slot.to_le_bytes();
                0x38 |slot| (slot as u32).to_le_bytes();
                0x39 |slot| slot.to_le_bytes();
                0x3A |slot| (slot as u8).to_le_bytes();
                0x3B |slot| (slot as u16).to_le_bytes();
                0x3C |slot| (slot as u8).to_le_bytes();
                0x3D |slot| (slot as u16).to_le_bytes();
                0x3E |slot| (slot as u32).to_le_bytes();
            }
        }
    };
}
pub(super) use with_tables;
