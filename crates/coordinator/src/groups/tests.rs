mod offsets;
mod seeds;
