//! Positions of an image that Winograd tiles cover.

/// Side of a tile's outputs.
pub(super) const TILE: usize = 4;

/// A square image within zeros: whole Winograd tiles cover the image, and a border of one position surrounds them.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub side: usize,
}

impl Grid {
    /// Tiles in a row.
    pub fn tiles(self) -> usize {
        self.side.div_ceil(TILE)
    }

    /// Number of positions from one row to the next.
    pub fn row(self) -> usize {
        TILE * self.tiles() + 2
    }

    /// Number of positions, zeros included.
    pub fn positions(self) -> usize {
        self.row() * self.row()
    }

    /// Number of positions from the first of the image to the last.
    pub fn span(self) -> usize {
        (self.side - 1) * self.row() + self.side
    }

    /// The position one row below and one column to the right.
    pub fn inside(self, position: usize) -> usize {
        position + self.row() + 1
    }

    /// The position of a pixel.
    pub fn at(self, y: usize, x: usize) -> usize {
        self.inside(y * self.row() + x)
    }

    /// Sets positions outside the image to zero, except the first row of the border.
    pub fn clear(self, values: &mut [f32], channels: usize) {
        for y in 0..self.side {
            values[self.at(y, self.side) * channels..self.at(y + 1, 0) * channels].fill(0.0);
        }
        let below = self.at(self.side, 0)..self.at(TILE * self.tiles(), 0);
        values[below.start * channels..below.end * channels].fill(0.0);
    }
}
