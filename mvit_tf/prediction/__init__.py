"""What models say of many videos, of long ones along their time, and of live sources."""
