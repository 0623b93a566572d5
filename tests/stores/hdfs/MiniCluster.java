import java.io.File;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/**
 * Hadoop's own small cluster, one name node and three data nodes in this process, on loopback, in the folder that is
 * named. Prints the name node's address, and ends when its input does.
 */
public final class MiniCluster {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new Configuration();
        MiniDFSCluster cluster =
                new MiniDFSCluster.Builder(configuration, new File(arguments[0])).numDataNodes(3).build();
        cluster.waitActive();
        System.out.println("127.0.0.1:" + cluster.getNameNodePort());
        while (System.in.read() >= 0) {}
        // Nothing of it is needed any more.
        Runtime.getRuntime().halt(0);
    }
}
