/* A crash that needs luck: one trial in twenty dies of SIGSEGV.
 *
 * The dice stand in for a race: the rate is known, so that the verdict can be checked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static unsigned roll(unsigned sides)
{
    unsigned value;
    if (getrandom(&value, sizeof value, 0) != sizeof value)
        exit(3);
    return value % sides;
}

int main(void)
{
    unsigned face = roll(20);
    printf("rolled %u of 20\n", face);
    fflush(stdout);
    if (face == 0)
        *(volatile int *)8 = 1;
    return 0;
}
