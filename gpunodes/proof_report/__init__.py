"""What is made of the record of a proof: a page for people, JUnit XML for CI systems."""
