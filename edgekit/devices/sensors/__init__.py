"""Sensors of a machine, found once and read beside a run: power, energy, temperature, clocks, throttling."""

from __future__ import annotations

from edgekit.devices.sensors.find import Sensors, describe_sensors, find_sensors

__all__ = ["Sensors", "describe_sensors", "find_sensors"]
