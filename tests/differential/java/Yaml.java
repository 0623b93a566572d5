import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.yaml.snakeyaml.LoaderOptions;
import org.yaml.snakeyaml.constructor.SafeConstructor;

/** YAML as JSON, with its anchors and aliases. */
final class Yaml {
    private Yaml() {}

    static JsonNode read(Path file) throws IOException {
        LoaderOptions options = new LoaderOptions();
        options.setAllowDuplicateKeys(false);
        options.setMaxAliasesForCollections(1_000);
        Object read = new org.yaml.snakeyaml.Yaml(new SafeConstructor(options)).load(Files.readString(file));
        return new ObjectMapper().valueToTree(read);
    }
}
