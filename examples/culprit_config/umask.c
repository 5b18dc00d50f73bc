#include <sys/stat.h>
int main(void) { umask(04242); return 0; }
