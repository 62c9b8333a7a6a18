"""Radiance fields from photographs: NeRF."""
