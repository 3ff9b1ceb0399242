// Pushes by gSOAP, with what wsdl2h and soapcpp2 made of the gateway's WSDL: ADDRESS FEED TOKEN FILE.
#include <stdio.h>
#include <stdlib.h>
#include "soapH.h"
#include "PushSoap.nsmap"

int main(int count, char **argument) {
    static char text[1 << 20];
    FILE *file = count == 5 ? fopen(argument[4], "rb") : NULL;
    if (!file) return 2;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    struct soap *soap = soap_new1(SOAP_C_UTFSTRING);
    soap->userid = argument[2];
    soap->passwd = argument[3];
    char *answer = NULL;
    CALL(soap, argument[1], text, &answer);
    if (soap->error) {
        soap_print_fault(soap, stderr);
        return 1;
    }
    puts(answer);
    soap_destroy(soap);
    soap_end(soap);
    soap_free(soap);
    return 0;
}
