/* The same program with the bug mended. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

int main(void)
{
    unsigned value;
    if (getrandom(&value, sizeof value, 0) != sizeof value)
        exit(3);
    printf("rolled %u of 20\n", value % 20);
    return 0;
}
