//! The demo's picture: how it is cut into tiles and put together again.

use std::{fs::File, io::BufWriter, path::Path};

use alloy::primitives::{B256, b256, keccak256};
use eyre::{Context as _, ensure};

/// The path tracer, compiled to WASI; source and build command lie beside it.
pub(super) const PROGRAM: &[u8] = include_bytes!("../../../examples/pathtracer/pathtracer.wasm");

/// Width of the picture, pixels.
pub(super) const WIDTH: u32 = 640;
/// Height of the picture, pixels.
pub(super) const HEIGHT: u32 = 360;
/// Light paths per pixel.
pub(super) const SAMPLES: u32 = 48;

/// keccak256 of the picture's raw pixels, however it is cut.
pub(super) const EXPECTED: B256 = b256!("e8472c1cb37ac6ef17c0cbd9b816ed74722d7cea0a89fd49224b537e05251a77");

/// Fuel of the whole picture, about: what limits and times are reckoned from.
pub(super) const FUEL: u64 = 172_000_000_000;

/// A rectangle of pixels, right and bottom exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) right: u32,
    pub(super) bottom: u32,
}

impl Tile {
    /// The task's standard input.
    pub(super) fn input(self) -> Vec<u8> {
        let Self { left, top, right, bottom } = self;
        format!("{WIDTH} {HEIGHT} {left} {top} {right} {bottom} {SAMPLES}\n").into_bytes()
    }

    fn width(self) -> usize {
        (self.right - self.left) as usize
    }
}

/// Cuts the picture into exactly `count` tiles (from 1 to as many as it has pixels) of about equal size: rows of tiles, where some rows
/// hold one tile more than others.
pub(super) fn tiles(count: u32) -> Vec<Tile> {
    // As many rows as make tiles about square, and never more tiles in a row than it has pixels.
    let square = (f64::from(count) * f64::from(HEIGHT) / f64::from(WIDTH)).sqrt().round() as u32;
    let rows = square.max(count.div_ceil(WIDTH)).clamp(1, HEIGHT.min(count));
    let cut = |whole: u32, parts: u32, at: u32| (u64::from(whole) * u64::from(at) / u64::from(parts)) as u32;
    let mut tiles = Vec::with_capacity(count as usize);
    for row in 0..rows {
        let columns = cut(count, rows, row + 1) - cut(count, rows, row);
        for column in 0..columns {
            tiles.push(Tile {
                left: cut(WIDTH, columns, column),
                top: cut(HEIGHT, rows, row),
                right: cut(WIDTH, columns, column + 1),
                bottom: cut(HEIGHT, rows, row + 1),
            });
        }
    }
    tiles
}

/// The picture's raw pixels, three bytes each, row by row, from the outputs of `tiles`.
pub(super) fn assemble(tiles: &[Tile], outputs: &[Vec<u8>]) -> eyre::Result<Vec<u8>> {
    let mut pixels = vec![0; (WIDTH * HEIGHT * 3) as usize];
    for (index, (tile, output)) in tiles.iter().zip(outputs).enumerate() {
        let line = tile.width() * 3;
        let expected = line * (tile.bottom - tile.top) as usize;
        ensure!(output.len() == expected, "tile {index} has {} bytes instead of {expected}", output.len());
        for (y, bytes) in (tile.top..tile.bottom).zip(output.chunks_exact(line)) {
            let start = ((y * WIDTH + tile.left) * 3) as usize;
            pixels[start..start + line].copy_from_slice(bytes);
        }
    }
    Ok(pixels)
}

/// The hash that every correct picture has.
pub(super) fn hash(pixels: &[u8]) -> B256 {
    keccak256(pixels)
}

/// Writes the picture as a PNG file.
pub(super) fn write_png(path: &Path, pixels: &[u8]) -> eyre::Result<()> {
    let file = File::create(path).wrap_err_with(|| format!("cannot write {}", path.display()))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_TILES: u32 = WIDTH * HEIGHT;

    #[test]
    fn tiles_cover_every_pixel_once_whatever_their_number() {
        for count in [1, 2, 3, 7, 16, 64, 97, 100, 640, 1000, 1021, 50_000, MAX_TILES - 1, MAX_TILES] {
            let tiles = tiles(count);
            assert_eq!(tiles.len(), count as usize);
            let outputs: Vec<_> = tiles
                .iter()
                .map(|tile| {
                    let pixels =
                        (tile.top..tile.bottom).flat_map(|y| (tile.left..tile.right).map(move |x| y * WIDTH + x));
                    pixels.flat_map(|number| number.to_be_bytes()[1..].to_vec()).collect::<Vec<_>>()
                })
                .collect();
            assert!(outputs.iter().all(|output| !output.is_empty()), "an empty tile among {count}");
            let expected: Vec<_> = (0..WIDTH * HEIGHT).flat_map(|number| number.to_be_bytes()[1..].to_vec()).collect();
            assert!(assemble(&tiles, &outputs).unwrap() == expected, "{count} tiles");
        }
    }

    #[test]
    fn an_output_of_the_wrong_size_is_refused() {
        let tiles = tiles(4);
        let outputs = vec![vec![0; 5]; 4];
        assert!(assemble(&tiles, &outputs).unwrap_err().to_string().contains("tile 0 has 5 bytes"));
    }
}
