/* Numbers and PCI addresses, read by hand: strtoul and sscanf bind to symbols that older C libraries do not have, and
 * the libraries run on instances whose base system is older than the machine that compiles them. */
#include "state.h"

static int digit(char c, unsigned int base)
{
    unsigned int value = 99;

    if (c >= '0' && c <= '9')
        value = (unsigned int)(c - '0');
    else if (c >= 'a' && c <= 'f')
        value = (unsigned int)(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F')
        value = (unsigned int)(c - 'A') + 10;
    return value < base ? (int)value : -1;
}

static bool parse(const char *text, unsigned int base, uint64_t *value, const char **rest)
{
    const char *start = text;

    for (*value = 0; digit(*text, base) >= 0; text++)
        *value = *value * base + (uint64_t)digit(*text, base);
    *rest = text;
    return text != start;
}

bool simgpu_parse_number(const char *text, uint64_t *value, const char **rest)
{
    if (text[0] == '0' && text[1] == 'x')
        return parse(text + 2, 16, value, rest);
    return parse(text, 10, value, rest);
}

bool simgpu_parse_pci(const char *text, unsigned int *domain, unsigned int *bus, unsigned int *device)
{
    uint64_t part[3] = {0, 0, 0}, function;
    unsigned int parts = 0;

    while (parts < 3 && parse(text, 16, &part[parts], &text)) {
        parts++;
        if (*text != ':')
            break;
        text++;
    }
    if (parts < 2 || *text != '.' || !parse(text + 1, 16, &function, &text) || *text != '\0')
        return false;
    *domain = parts == 3 ? (unsigned int)part[0] : 0;
    *bus = (unsigned int)part[parts - 2];
    *device = (unsigned int)part[parts - 1];
    return true;
}
