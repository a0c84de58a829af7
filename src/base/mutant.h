/* mutant.h: the simulator's build breaks one rule at a time (catalog.md section 15) to show that it would notice. MUTANT(n) stands where
 * rule n lives. Outside the simulator it is the constant 0 and the broken branch does not exist. */
#pragma once
#ifdef SLUICE_SIM
extern unsigned sluice_mutant; /* 0: none; sim/main.c */
#define MUTANT(n) (sluice_mutant == (n))
#else
#define MUTANT(n) 0
#endif
