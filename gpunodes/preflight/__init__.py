"""Everything that can be known before a bake costs money; `doctor` asks it alone and changes nothing."""
