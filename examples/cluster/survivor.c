/* Asks the kernel for a little of everything, and lives. Put your reproducer in its place. */
#include <fcntl.h>
#include <unistd.h>

int main(void)
{
	char bytes[64];
	int fd = open("/dev/zero", O_RDONLY);

	for (int i = 0; i < 1000; i++)
		if (read(fd, bytes, sizeof(bytes)) != sizeof(bytes))
			return 1;
	return 0;
}
