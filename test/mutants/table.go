package main

// mutants are the broken rules, in the order of FAULTS.md's table.
var mutants = []mutant{}
