// Ticks. It doesn't matter where it sleeps, and whether the machine is up meanwhile.
#include <stdio.h>

#include "durun.h"

int main(void) {
	for (int i = 1; i <= 3; i++) {
		printf("tick %d\n", i);
		if (durun_sleep(100 * DURUN_MILLISECOND) < 0) return 1;
	}
}
